package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"sallyport/core/admin"
)

// coreFlags say which core a command asks, and how its answer is shown.
type coreFlags struct {
	Core      string `default:"http://127.0.0.1:9462" placeholder:"URL" help:"The core's API: its [admin] listen (default: ${default})."`
	TokenFile string `placeholder:"FILE" help:"File with the API's bearer token, the core's [admin] token_file."`
	JSON      bool   `name:"json" help:"Print the API's answer as it is."`

	patience time.Duration // for answers that take longer than others
}

const (
	apiTimeout = 15 * time.Second
	maxAnswer  = 256 << 20 // bytes; a core with 100,000 devices answers with some 60 MiB
)

// get asks the API and decodes the answer into v.
func (f *coreFlags) get(ctx context.Context, path string, v any) error {
	return f.ask(ctx, http.MethodGet, path, nil, v)
}

// post sends body as JSON and decodes the answer into v.
func (f *coreFlags) post(ctx context.Context, path string, body, v any) error {
	data, err := json.Marshal(body)
	if err != nil {
		return err
	}
	return f.ask(ctx, http.MethodPost, path, data, v)
}

func (f *coreFlags) ask(ctx context.Context, method, path string, body []byte, v any) error {
	ctx, cancel := context.WithTimeout(ctx, apiTimeout+f.patience)
	defer cancel()
	base, err := url.Parse(f.Core)
	if err != nil || base.Scheme != "http" && base.Scheme != "https" || base.Host == "" {
		return fmt.Errorf("--core: must be like http://127.0.0.1:9462 (got %q)", f.Core)
	}
	req, err := http.NewRequestWithContext(ctx, method, strings.TrimSuffix(f.Core, "/")+path, bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("--core: %w", err)
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if f.TokenFile != "" {
		token, err := os.ReadFile(f.TokenFile)
		if err != nil {
			return fmt.Errorf("--token-file: %w", err)
		}
		req.Header.Set("Authorization", "Bearer "+strings.TrimSpace(string(token)))
	}
	client := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	defer client.CloseIdleConnections()
	resp, err := client.Do(req)
	if err != nil {
		return fmt.Errorf("no answer from %s: %w\nis sallyport-core running there, and is that its [admin] listen? Another place is named with --core URL", f.Core, trim(err))
	}
	defer resp.Body.Close()
	return decode(resp, v)
}

// trim takes off what net/http adds to the cause.
func trim(err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		return u.Err
	}
	return err
}

func decode(resp *http.Response, v any) error {
	data, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	switch {
	case err != nil:
		return fmt.Errorf("read the core's answer: %w", err)
	case len(data) > maxAnswer:
		return errors.New("the core's answer is too large: ask for one address")
	case resp.StatusCode == http.StatusOK:
		if err := json.Unmarshal(data, v); err != nil {
			return fmt.Errorf("what answers is no core of this version: %w", err)
		}
		return nil
	}
	var fault admin.Fault
	if json.Unmarshal(data, &fault) != nil || fault.Error == "" {
		return fmt.Errorf("what answers is no core: %s", resp.Status)
	}
	if resp.StatusCode == http.StatusUnauthorized {
		return fmt.Errorf("%s; give it with --token-file FILE", clean(fault.Error))
	}
	return errors.New(clean(fault.Error))
}

// printJSON shows an answer for programs.
func printJSON(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	return enc.Encode(v)
}
