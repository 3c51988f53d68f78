package loadgen

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

// clockTick is the unit of CPU times in /proc (USER_HZ), 10 ms wherever Linux
// runs Go.
const clockTick = 10 * time.Millisecond

// A Process is the root of a tree of processes that is accounted as one.
type Process struct {
	Name string
	PID  int
}

// stat reads the parent and the CPU time, user and kernel, of one process.
func stat(pid int) (parent int, cpu time.Duration, ok bool) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, 0, false
	}
	end := bytes.LastIndexByte(text, ')') // the name may hold anything
	if end < 0 {
		return 0, 0, false
	}
	fields := strings.Fields(string(text[end+1:])) // from field 3 of proc(5)
	if len(fields) < 13 {
		return 0, 0, false
	}
	parent, _ = strconv.Atoi(fields[1])
	for _, f := range fields[11:13] {
		ticks, err := strconv.Atoi(f)
		if err != nil {
			return 0, 0, false
		}
		cpu += time.Duration(ticks) * clockTick
	}
	return parent, cpu, true
}

// tree lists the process and all its descendants.
func (p Process) tree() []int {
	children := make(map[int][]int)
	entries, _ := os.ReadDir("/proc")
	for _, e := range entries {
		if pid, err := strconv.Atoi(e.Name()); err == nil {
			if parent, _, ok := stat(pid); ok {
				children[parent] = append(children[parent], pid)
			}
		}
	}
	all := []int{p.PID}
	for i := 0; i < len(all); i++ {
		all = append(all, children[all[i]]...)
	}
	return all
}

// CPU is what the tree has used so far, in user and kernel.
func (p Process) CPU() (total time.Duration) {
	for _, pid := range p.tree() {
		if _, cpu, ok := stat(pid); ok {
			total += cpu
		}
	}
	return total
}

// Memory is the tree's share of physical memory (PSS), in bytes: a page that n
// processes share counts as an n-th.
func (p Process) Memory() (total int64) {
	for _, pid := range p.tree() {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
		if err != nil {
			continue
		}
		for line := range strings.Lines(string(text)) {
			if rest, ok := strings.CutPrefix(line, "Pss:"); ok {
				kib, _ := strconv.ParseInt(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(rest), "kB")), 10, 64)
				total += kib << 10
			}
		}
	}
	return total
}

// usage is what every watched tree had used at one moment.
type usage struct {
	at  time.Time
	cpu map[string]time.Duration
}

func (g *Generator) usage() usage {
	u := usage{at: time.Now(), cpu: make(map[string]time.Duration)}
	for _, p := range g.server.Watch {
		u.cpu[p.Name] = p.CPU()
	}
	return u
}
