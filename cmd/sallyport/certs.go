package main

import (
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"sallyport/certs"
	"sallyport/certs/ca"
)

// certsCmd is `sallyport certs`.
type certsCmd struct {
	Init  certsInitCmd  `cmd:"" help:"Make the CA. Keep its directory offline: whoever has it can pose as any edge or core."`
	Issue certsIssueCmd `cmd:"" help:"Make, or renew, the bundle of one edge or core."`
}

type certsInitCmd struct {
	Dir string `required:"" help:"Directory of the CA; made where it is missing."`
}

// Run makes a CA; it never replaces one.
func (cmd *certsInitCmd) Run(c *console) error {
	if err := ca.Init(cmd.Dir); err != nil {
		return err
	}
	fmt.Fprintf(c.out, "made the CA: %s and its key %s\n", filepath.Join(cmd.Dir, ca.CertFile), filepath.Join(cmd.Dir, ca.KeyFile))
	return nil
}

type certsIssueCmd struct {
	Dir  string `required:"" help:"Directory of the CA; the bundle is written there too."`
	Edge string `xor:"role" placeholder:"NAME" help:"Issue for an edge: the DNS name or IP address by which cores dial it."`
	Core string `xor:"role" placeholder:"NAME" help:"Issue for a core: any name that tells it from other cores."`
	Days int    `default:"397" help:"How long the bundle is valid."`
}

// Run writes DIR/NAME.pem.
func (cmd *certsIssueCmd) Run(c *console) error {
	role, name := certs.RoleEdge, cmd.Edge
	if cmd.Core != "" {
		role, name = certs.RoleCore, cmd.Core
	}
	if name == "" {
		return errors.New("name whom the bundle is for: --edge NAME or --core NAME")
	}
	path, err := ca.Issue(cmd.Dir, role, name, cmd.Days)
	if err != nil {
		return err
	}
	b, err := certs.LoadBundle(path)
	if err != nil {
		return err
	}
	fmt.Fprintf(c.out, "issued %s for %s %s, valid until %s\ncopy it to the %s as the file that [tunnel] identity names; it holds a private key\n",
		path, b.Role(), b.Name(), b.NotAfter().In(c.zone).Format(time.DateOnly), b.Role())
	return nil
}
