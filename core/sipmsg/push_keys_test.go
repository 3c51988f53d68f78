package sipmsg

import (
	"strings"
	"testing"
)

// Key and secret of the example of RFC 8291 §5.
const (
	pnKey  = "BCVxsr7N_eNgVRqvHtD0zTZsEc6-VV-JvLexhqUzORcxaOzi6-AYWXvTBHm4bjyPjs7Vd8pZGH6SRpkNtoIAiw4"
	pnAuth = "BTBZMqHH6r4Tts7J_aSIgg"
)

const apnsOne = ";pn-provider=apns;pn-param=TEAM.org.example.phone;pn-prid=CCDD"

func pushOf(t *testing.T, params string) PushParams {
	t.Helper()
	u, err := ParseURI("sip:alice@192.0.2.9" + params)
	if err != nil {
		t.Fatal(err)
	}
	return ParsePush(u.Params)
}

func TestPNClassDeclaresTheChannels(t *testing.T) {
	for params, want := range map[string]string{
		apnsOne:                                     "",
		apnsOne + ";pn-class=single":                "single",
		apnsOne + ";PN-Class=SPLIT":                 "split",
		apnsOne + ";pn-class=both":                  "",
		apnsOne + ".voip;pn-class=split":            "split",
		";pn-provider=fcm;pn-prid=x;pn-class=split": "split",
	} {
		if got := pushOf(t, params).Class; got != want {
			t.Errorf("%s: class %q, want %q", params, got, want)
		}
	}
}

func TestPNKeyAndAuthCountTogetherAndOnlyIfTheyAreWhatTheyMustBe(t *testing.T) {
	good := pushOf(t, apnsOne+";pn-key="+pnKey+";pn-auth="+pnAuth)
	if good.Key != pnKey || good.Auth != pnAuth || good.BadKey {
		t.Errorf("key %q, auth %q, bad %v", good.Key, good.Auth, good.BadKey)
	}
	if p := pushOf(t, apnsOne); p.Key+p.Auth != "" || p.BadKey {
		t.Errorf("without: %+v", p)
	}
	offCurve := pnKey[:40] + strings.ToLower(pnKey[40:50]) + pnKey[50:]
	for name, params := range map[string]string{
		"no auth":                      ";pn-key=" + pnKey,
		"no key":                       ";pn-auth=" + pnAuth,
		"a key of another length":      ";pn-key=" + pnKey[:86] + ";pn-auth=" + pnAuth,
		"a longer key":                 ";pn-key=" + pnKey + pnKey + ";pn-auth=" + pnAuth,
		"not on the curve":             ";pn-key=" + offCurve + ";pn-auth=" + pnAuth,
		"compressed":                   ";pn-key=AiVxsr7N_eNgVRqvHtD0zTZsEc6-VV-JvLexhqUzORcx;pn-auth=" + pnAuth,
		"15 octets of auth":            ";pn-key=" + pnKey + ";pn-auth=BTBZMqHH6r4Tts7J_aSI",
		"auth with bits left":          ";pn-key=" + pnKey + ";pn-auth=BTBZMqHH6r4Tts7J_aSIgh",
		"the alphabet of plain base64": ";pn-key=" + strings.NewReplacer("-", "+", "_", "/").Replace(pnKey) + ";pn-auth=" + pnAuth,
	} {
		p := pushOf(t, apnsOne+params)
		if p.Key != "" || p.Auth != "" || !p.BadKey {
			t.Errorf("%s: key %q, auth %q, bad %v", name, p.Key, p.Auth, p.BadKey)
		}
		if len(p.Tokens) != 1 {
			t.Errorf("%s: the token is lost", name)
		}
	}
}

func TestPN16_OnlyPNPurrStaysInADialogsContact(t *testing.T) {
	u, err := ParseURI("sip:alice@192.0.2.9" + apnsOne + ";pn-class=split;pn-key=" + pnKey + ";pn-auth=" + pnAuth + ";PN-Purr=abc;x")
	if err != nil {
		t.Fatal(err)
	}
	if got := u.WithoutTokens().String(); got != "sip:alice@192.0.2.9;PN-Purr=abc;x" {
		t.Errorf("without tokens: %s", got)
	}
	if got := u.WithoutPush().String(); got != "sip:alice@192.0.2.9;x" {
		t.Errorf("without push: %s", got)
	}
}

func TestPN2_PNSRegIsAFeatureTagOfTheContact(t *testing.T) {
	for value, want := range map[string]bool{
		"<sip:a@h>;+sip.pnsreg": true, "<sip:a@h>;+SIP.PNSREG;expires=5": true, "<sip:a@h;+sip.pnsreg>": false, "<sip:a@h>": false,
	} {
		cs, fault := Contacts(mustParse(t, register(value)))
		if fault != nil {
			t.Fatal(fault)
		}
		if got := cs[0].WakesItself(); got != want {
			t.Errorf("%s: %v", value, got)
		}
	}
}
