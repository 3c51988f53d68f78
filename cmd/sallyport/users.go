package main

import (
	"errors"
	"fmt"
	"io"

	"sallyport/core/registrar"
)

// usersCmd is `sallyport users`.
type usersCmd struct {
	Add usersAddCmd `cmd:"" help:"Add a user to a users file, or set a new password."`
}

// maxPassword bounds what is read from standard input, in bytes.
const maxPassword = 1024

type usersAddCmd struct {
	File          string `required:"" help:"The users_file of the domain; made (0600) where it is missing."`
	Domain        string `required:"" help:"The stand-alone domain, as the core's config names it."`
	PasswordStdin bool   `required:"" help:"Read the password from standard input, up to its end. There is no other way: a command line can be seen by every process."`
	User          string `arg:"" help:"The user part of the address: alice for sip:alice@DOMAIN."`
}

// Run adds the user or replaces its password.
func (cmd *usersAddCmd) Run(c *console) error {
	password, err := io.ReadAll(io.LimitReader(c.in, maxPassword+1))
	if err != nil {
		return fmt.Errorf("read the password: %w", err)
	}
	if len(password) > maxPassword {
		return errors.New("the password on standard input is longer than 1024 bytes")
	}
	if err := registrar.AddUser(cmd.File, cmd.Domain, cmd.User, string(password)); err != nil {
		return err
	}
	fmt.Fprintf(c.out, "%s: %s@%s may register\n", cmd.File, cmd.User, cmd.Domain)
	return nil
}
