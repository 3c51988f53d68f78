package main

import (
	"fmt"
	"io"
	"slices"
	"time"

	"sallyport/test/load/loadgen"
)

// results are all of them, by system and scenario.
type results map[string]map[string][]*loadgen.Result

func (rs results) add(system, scenario string, r *loadgen.Result) {
	if rs[system] == nil {
		rs[system] = make(map[string][]*loadgen.Result)
	}
	rs[system][scenario] = append(rs[system][scenario], r)
}

// A row is one line of the table.
type row struct {
	scenario, what, unit string
	value                func(r *loadgen.Result) float64
	goal                 string
}

// both is the CPU of edge and core together.
func both(r *loadgen.Result) float64      { return r.CPUOf("edge") + r.CPUOf("core") }
func edgeCPU(r *loadgen.Result) float64   { return r.CPUOf("edge") }
func coreCPU(r *loadgen.Result) float64   { return r.CPUOf("core") }
func perSecond(r *loadgen.Result) float64 { return r.Rate() }

func p50(of string) func(*loadgen.Result) float64 {
	return func(r *loadgen.Result) float64 { return milliseconds(r.Times[of].P50) }
}

func p99(of string) func(*loadgen.Result) float64 {
	return func(r *loadgen.Result) float64 { return milliseconds(r.Times[of].P99) }
}

func milliseconds(d time.Duration) float64 { return d.Seconds() * 1000 }

func extra(of string, unit float64) func(*loadgen.Result) float64 {
	return func(r *loadgen.Result) float64 { return r.Extra[of] / unit }
}

// cpuRows are the three lines of one scenario's CPU.
func cpuRows(scenario, what, goal string) []row {
	return []row{
		{scenario, what + ", edge and core", "CPU-s/10k", both, goal},
		{scenario, "— edge", "CPU-s/10k", edgeCPU, ""},
		{scenario, "— core", "CPU-s/10k", coreCPU, ""},
	}
}

func rows() []row {
	return slices.Concat(
		cpuRows("refresh-tls", "REGISTER refresh, TLS", "≤ 0.5×"),
		cpuRows("refresh-wss", "REGISTER refresh, WSS", "≤ 0.5×"),
		cpuRows("refresh-paced", "REGISTER refresh, TLS, 1,000/s", ""),
		cpuRows("msg-out", "MESSAGE, phone to PBX", "≤ 0.5×"),
		cpuRows("msg-in", "MESSAGE, PBX to phone", "≤ 0.5×"),
		cpuRows("call-out", "call, phone to PBX", "≤ 0.5×"),
		cpuRows("call-in", "call, PBX to phone", "≤ 0.5×"),
		cpuRows("call-in-100", "call, PBX to phone, 100/s", ""),
		[]row{
			{"refresh-tls", "REGISTER refresh, TLS", "1/s", perSecond, ""},
			{"msg-out", "MESSAGE, phone to PBX", "1/s", perSecond, ""},
			{"msg-in", "MESSAGE, PBX to phone", "1/s", perSecond, ""},
			{"call-out", "call, phone to PBX", "1/s", perSecond, ""},
			{"call-in", "call, PBX to phone", "1/s", perSecond, ""},
			{"storm-tls", "REGISTER storm, TLS", "1/s", perSecond, "≥ 2×"},
			{"storm-wss", "REGISTER storm, WSS", "1/s", perSecond, "≥ 2×"},
			{"call-in-100", "call at 100/s, PBX to phone, INVITE to 180, p50", "ms", p50("to 180"), ""},
			{"call-in-100", "— p99", "ms", p99("to 180"), "≤ Kamailio's"},
			{"call-out-100", "call at 100/s, phone to PBX, INVITE to 180, p50", "ms", p50("to 180"), ""},
			{"call-out-100", "— p99", "ms", p99("to 180"), "≤ Kamailio's"},
			{"wake", "INVITE in to push out, p50", "ms", p50("INVITE to push"), "≤ 0.3"},
			{"wake", "— p99", "ms", p99("INVITE to push"), "≤ 0.8"},
			{"wake", "REGISTER in to INVITE out, p50", "ms", p50("REGISTER to INVITE"), "≤ 0.6"},
			{"wake", "— p99", "ms", p99("REGISTER to INVITE"), "≤ 1.4"},
			{"wake", "INVITE in to INVITE at the phone, TLS between, p50", "ms", p50("INVITE to INVITE"), ""},
			{"wake-again", "ghost INVITEs, users woken four times within seconds", "", extra("ghosts", 1), "0"},
			{"idle-tls", "idle flow, TLS, edge (PSS)", "KiB", extra("edge", 1024), "≤ 12"},
			{"idle-tls", "— core (PSS)", "KiB", extra("core", 1024), ""},
			{"idle-wss", "idle flow, WSS, edge (PSS)", "KiB", extra("edge", 1024), "≤ 24"},
			{"idle-wss", "— core (PSS)", "KiB", extra("core", 1024), ""},
		},
	)
}

// print writes the medians. The ratio is that of the last system to the first.
func (rs results) print(w io.Writer, systems []system) {
	fmt.Fprint(w, "| | unit |")
	for _, s := range systems {
		fmt.Fprintf(w, " %s |", s.name())
	}
	if len(systems) == 2 {
		fmt.Fprint(w, " ratio |")
	}
	fmt.Fprint(w, " goal |\n|---|---|")
	for range len(systems) + len(systems)/2 {
		fmt.Fprint(w, "---|")
	}
	fmt.Fprintln(w, "---|")
	for _, r := range rows() {
		var values []float64
		for _, s := range systems {
			if v, ok := rs.median(s.name(), r); ok {
				values = append(values, v)
			}
		}
		if len(values) < len(systems) {
			continue
		}
		fmt.Fprintf(w, "| %s | %s |", r.what, r.unit)
		for _, v := range values {
			fmt.Fprintf(w, " %s |", figure(v))
		}
		if len(values) == 2 {
			fmt.Fprintf(w, " %s |", ratio(values[1], values[0]))
		}
		fmt.Fprintf(w, " %s |\n", r.goal)
	}
}

func (rs results) median(system string, r row) (float64, bool) {
	var values []float64
	for _, one := range rs[system][r.scenario] {
		values = append(values, r.value(one))
	}
	if len(values) == 0 {
		return 0, false
	}
	slices.Sort(values)
	n := len(values)
	return (values[(n-1)/2] + values[n/2]) / 2, true
}

// figure writes a value with three digits that count.
func figure(v float64) string {
	switch {
	case v == 0:
		return "0"
	case v < 1:
		return fmt.Sprintf("%.3f", v)
	case v < 10:
		return fmt.Sprintf("%.2f", v)
	case v < 100:
		return fmt.Sprintf("%.1f", v)
	}
	return fmt.Sprintf("%.0f", v)
}

func ratio(a, b float64) string {
	if b == 0 {
		return "–"
	}
	return fmt.Sprintf("%.2f×", a/b)
}
