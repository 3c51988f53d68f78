package boot

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"slices"
	"strings"

	"github.com/pelletier/go-toml/v2"
)

// maxConfig bounds a config file, in bytes.
const maxConfig = 4 << 20

// Load layers a config: defaults, then the file (none when path is ""), then
// the SALLYPORT_SECTION_KEY variables of env. The error holds every fault, one
// a line: first what could not be decoded, as "core.toml:12: key: …", then
// what Validate says of the rest, as "core.toml: section.key: …".
func Load[C any](defaults func() C, path string, env []string) (C, error) {
	cfg := defaults()
	var faults []error
	spoilt := map[string]bool{} // keys whose value was not taken
	if path != "" {
		data, err := readConfig(path)
		if err != nil {
			return cfg, err
		}
		found := decode(data, &cfg)
		for _, f := range found {
			faults = append(faults, f.at(path))
			spoilt[f.key] = true
		}
		if slices.ContainsFunc(found, func(f fault) bool { return f.fatal }) {
			return cfg, errors.Join(faults...)
		}
	}
	from, envFaults := applyEnv(&cfg, env)
	for _, f := range envFaults {
		faults = append(faults, fmt.Errorf("%s: %s", f.name, f.text))
		spoilt[f.key] = true
	}
	if v, ok := any(&cfg).(interface{ Validate() error }); ok {
		for _, err := range flatten(v.Validate()) {
			key, _, _ := strings.Cut(err.Error(), ": ")
			switch name, fromEnv := from[key]; {
			case spoilt[indices.ReplaceAllString(key, "")]:
			case fromEnv:
				faults = append(faults, fmt.Errorf("%s: %w", name, err))
			case path == "":
				faults = append(faults, fmt.Errorf("config: %w", err))
			default:
				faults = append(faults, fmt.Errorf("%s: %w", path, err))
			}
		}
	}
	return cfg, errors.Join(faults...)
}

// indices are what Validate adds to a key to tell which of a list's tables it
// means: "sip.domain[0].name".
var indices = regexp.MustCompile(`\[[0-9]+\]`)

// flatten takes joined errors apart.
func flatten(err error) []error {
	switch joined, ok := err.(interface{ Unwrap() []error }); {
	case err == nil:
		return nil
	case !ok:
		return []error{err}
	default:
		var all []error
		for _, e := range joined.Unwrap() {
			all = append(all, flatten(e)...)
		}
		return all
	}
}

func readConfig(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxConfig+1))
	if err != nil {
		return nil, err
	}
	if len(data) > maxConfig {
		return nil, fmt.Errorf("%s: larger than %d bytes, which no config is", path, maxConfig)
	}
	return data, nil
}

// A fault is one thing wrong in a config file.
type fault struct {
	line  int    // from 1; 0 when it is not known
	key   string // "section.key", "" when it is not known
	text  string
	fatal bool // the file cannot be read on, so nothing of it was taken
}

func (f fault) at(path string) error {
	where := path
	if f.line > 0 {
		where = fmt.Sprintf("%s:%d", path, f.line)
	}
	if f.key == "" {
		return fmt.Errorf("%s: %s", where, f.text)
	}
	return fmt.Errorf("%s: %s: %s", where, f.key, f.text)
}

// decode reads a file's text over the defaults in cfg. What is faulty is left
// as it was; all the rest is taken.
func decode(data []byte, cfg any) []fault {
	data = bytes.TrimPrefix(data, []byte("\xef\xbb\xbf"))
	var anything map[string]any
	if err := toml.Unmarshal(data, &anything); err != nil {
		return []fault{foreign(err, true)}
	}
	good, faults := inspect(data, cfg)
	if err := toml.NewDecoder(bytes.NewReader(good)).DisallowUnknownFields().Decode(cfg); err != nil {
		faults = append(faults, foreign(err, true))
	}
	return faults
}

// foreign is the fault in an error of the TOML library.
func foreign(err error, fatal bool) fault {
	f := fault{fatal: fatal, text: strings.TrimPrefix(err.Error(), "toml: ")}
	var de *toml.DecodeError
	if errors.As(err, &de) {
		f.line, _ = de.Position()
		f.key = strings.Join(de.Key(), ".")
	}
	return f
}
