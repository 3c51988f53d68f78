run_as_root = true
daemonize = false
pidfile = "{{.Dir}}/prosody.pid"
data_path = "{{.Dir}}/data"
interfaces = { "127.0.0.1" }
local_interfaces = { "127.0.0.1" }
c2s_ports = { {{port .Plain}} }
c2s_direct_tls_ports = { {{port .TLS}} }
s2s_ports = { }
s2s_direct_tls_ports = { }
http_ports = { {{port .WS}} }
https_ports = { {{port .WSS}} }
http_interfaces = { "127.0.0.1" }
https_interfaces = { "127.0.0.1" }
http_default_host = "{{.Domain}}"
consider_websocket_secure = true
allow_unencrypted_plain_auth = true
c2s_require_encryption = false
authentication = "internal_hashed"
ssl = {
  key = "{{.Dir}}/key.pem"; certificate = "{{.Dir}}/cert.pem";
  {{if .With.ChannelBinding}}protocol = "tlsv1_2";{{end}}
}
https_ssl = { key = "{{.Dir}}/key.pem"; certificate = "{{.Dir}}/cert.pem" }
c2s_direct_tls_ssl = {
  key = "{{.Dir}}/key.pem"; certificate = "{{.Dir}}/cert.pem";
  {{if .With.ChannelBinding}}protocol = "tlsv1_2";{{end}}
}
modules_enabled = {
  "roster"; "saslauth"; "tls"; "disco"; "private"; "vcard4"; "carbons"; "csi_simple";
  "smacks"; "websocket"; "ping"; "offline"; "blocklist"; "pep"; "time"; "version"; {{if .With.MAM}}"mam";{{end}}
}
modules_disabled = { "s2s" }
smacks_hibernation_time = {{printf "%.0f" .With.Hibernate.Seconds}}
{{if .With.MAM}}
storage = { archive = "sql" }
sql = { driver = "SQLite3"; database = "{{.Dir}}/archive.sqlite" }
{{end}}
log = { { levels = { min = "warn" }, to = "console" } }

VirtualHost "{{.Domain}}"

Component "{{.Rooms}}" "muc"
