//go:build unix

package vault

import (
	"fmt"
	"io/fs"
	"os"
	"syscall"
)

// checkAccess refuses a file that strangers may read, or could change.
func checkAccess(info fs.FileInfo) error {
	if perm := info.Mode().Perm(); perm&0o037 != 0 {
		return fmt.Errorf("has mode %04o, so that others can get at the keys: chmod 600 it", perm)
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok || st.Uid == 0 || int(st.Uid) == os.Geteuid() {
		return nil
	}
	return fmt.Errorf("belongs to uid %d: chown it to the user that runs the core (uid %d), or to root", st.Uid, os.Geteuid())
}
