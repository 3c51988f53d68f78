package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"sallyport/core/push/webpush"
)

// pushVAPIDCmd is `sallyport push vapid`.
type pushVAPIDCmd struct {
	Out  string `xor:"what" placeholder:"FILE" help:"Make a key and write it here, for the core's vapid_key. A file that is there is never replaced."`
	Show string `xor:"what" placeholder:"FILE" help:"Print the public key of this file."`
}

// Run prints the public key alone on the last line, for an app to subscribe
// with.
func (cmd *pushVAPIDCmd) Run(c *console) error {
	switch {
	case cmd.Show != "":
		public, err := webpush.PublicKey(cmd.Show)
		if err != nil {
			return err
		}
		fmt.Fprintln(c.out, public)
		return nil
	case cmd.Out == "":
		return errors.New("name the file: --out FILE makes a key, --show FILE prints the public key of one")
	}
	text, public, err := webpush.GenerateKey()
	if err != nil {
		return err
	}
	if err := writeNew(cmd.Out, text); err != nil {
		return err
	}
	fmt.Fprintf(c.out, "made %s: name it as vapid_key, give it to the user that the core runs as, and keep it: with another key, every app must subscribe again\n"+
		"the public key, which is an app's applicationServerKey:\n%s\n", cmd.Out, public)
	return nil
}

// writeNew writes a secret to a file that must not be there.
func writeNew(path string, text []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600) // #nosec G304 -- the operator names it
	if errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("%s is there already and is not replaced: --show prints its public key", path)
	}
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		_ = os.Remove(path) // half a key is none
		return err
	}
	return nil
}
