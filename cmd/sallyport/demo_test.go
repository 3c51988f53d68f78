package main

import (
	"bytes"
	"strings"
	"testing"
)

func TestDemoWakesBobOnceAndTellsEachStep(t *testing.T) {
	var out bytes.Buffer
	if err := playDemo(t.Context(), &out, false); err != nil {
		t.Fatalf("%v\n%s", err, out.String())
	}
	for _, want := range []string{"goes to the background", "accepted a voip push", "has the INVITE", "the call is up", "done: pushed once"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("the demo did not say %q:\n%s", want, out.String())
		}
	}
}
