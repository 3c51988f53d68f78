package xmpp

import (
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"hash"
	"strconv"
	"strings"
)

// AuthError is a refused login (RFC 6120 §6.5).
type AuthError struct {
	Condition string
	Raw       []byte
}

// Error is the element itself.
func (e *AuthError) Error() string { return "login refused: " + string(e.Raw) }

// scrams are the SCRAM mechanisms, by name.
var scrams = map[string]func() hash.Hash{"SCRAM-SHA-1": sha1.New, "SCRAM-SHA-256": sha256.New}

// mechanisms are what features offer.
func mechanisms(features *Stanza) []string {
	list := features.Child(NSSASL, "mechanisms")
	if list == nil {
		return nil
	}
	var all []string
	for _, piece := range strings.Split(string(list.Raw), "<mechanism>")[1:] {
		name, _, _ := strings.Cut(piece, "<")
		all = append(all, name)
	}
	return all
}

// login does SASL on a stream whose features are known, and starts the stream
// anew. It returns the features of that.
func login(c *conn, mechanism, gs2, user, password string) (*Stanza, error) {
	if scrams[mechanism] == nil {
		if err := c.write(authElement("auth", mechanism, "\x00"+user+"\x00"+password)); err != nil {
			return nil, err
		}
		answer, err := c.read()
		if err == nil {
			err = success(answer)
		}
		if err != nil {
			return nil, err
		}
		return c.open()
	}
	if err := scram(c, mechanism, gs2, user, password); err != nil {
		return nil, err
	}
	return c.open()
}

// scram is RFC 5802 without channel binding.
func scram(c *conn, mechanism, gs2, user, password string) error {
	newHash, nonce := scrams[mechanism], rand.Text()
	bare := "n=" + strings.NewReplacer("=", "=3D", ",", "=2C").Replace(user) + ",r=" + nonce
	if err := c.write(authElement("auth", mechanism, gs2+bare)); err != nil {
		return err
	}
	challenge, err := authAnswer(c, "challenge")
	if err != nil {
		return err
	}
	fields := scramFields(challenge)
	salt, err := base64.StdEncoding.DecodeString(fields["s"])
	rounds, errRounds := strconv.Atoi(fields["i"])
	if err = errors.Join(err, errRounds); err != nil || !strings.HasPrefix(fields["r"], nonce) {
		return fmt.Errorf("challenge %q: %w", challenge, errors.Join(err, errors.New("not one of SCRAM")))
	}
	salted, err := pbkdf2.Key(newHash, password, salt, rounds, newHash().Size())
	if err != nil {
		return err
	}
	mac := func(key []byte, text string) []byte {
		m := hmac.New(newHash, key)
		m.Write([]byte(text))
		return m.Sum(nil)
	}
	final := "c=" + base64.StdEncoding.EncodeToString([]byte(gs2)) + ",r=" + fields["r"]
	signed := bare + "," + challenge + "," + final
	clientKey := mac(salted, "Client Key")
	h := newHash()
	h.Write(clientKey)
	proof := mac(h.Sum(nil), signed)
	for i := range proof {
		proof[i] ^= clientKey[i]
	}
	if err := c.write(authElement("response", "", final+",p="+base64.StdEncoding.EncodeToString(proof))); err != nil {
		return err
	}
	last, err := authAnswer(c, "success")
	if err != nil {
		return err
	}
	want := base64.StdEncoding.EncodeToString(mac(mac(salted, "Server Key"), signed))
	if scramFields(last)["v"] != want {
		return fmt.Errorf("the server's signature is wrong: %q", last)
	}
	return nil
}

func authElement(name, mechanism, text string) []byte {
	attr := ""
	if mechanism != "" {
		attr = " mechanism='" + mechanism + "'"
	}
	return []byte("<" + name + " xmlns='" + NSSASL + "'" + attr + ">" + base64.StdEncoding.EncodeToString([]byte(text)) + "</" + name + ">")
}

// authAnswer reads a challenge or success and returns what is in it.
func authAnswer(c *conn, name string) (string, error) {
	answer, err := c.read()
	if err != nil {
		return "", err
	}
	if !answer.Is(NSSASL, name) {
		return "", success(answer)
	}
	whole := Part{Raw: answer.Raw}
	text, err := base64.StdEncoding.DecodeString(whole.Text())
	return string(text), err
}

// success is an error where login was not successful.
func success(answer *Stanza) error {
	switch {
	case answer.Is(NSSASL, "success"):
		return nil
	case answer.Is(NSSASL, "failure"):
		return &AuthError{Condition: firstChild(answer), Raw: answer.Raw}
	default:
		return fmt.Errorf("unexpected in a login: %s", answer.Raw)
	}
}

func scramFields(text string) map[string]string {
	all := make(map[string]string)
	for field := range strings.SplitSeq(text, ",") {
		name, value, _ := strings.Cut(field, "=")
		all[name] = value
	}
	return all
}
