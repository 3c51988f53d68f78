package aes128gcm_test

import (
	"bytes"
	"crypto/ecdh"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"strings"
	"testing"

	"sallyport/core/push/aes128gcm"
)

func unb64(t testing.TB, s string) []byte {
	t.Helper()
	b, err := base64.RawURLEncoding.DecodeString(s)
	if err != nil {
		t.Fatalf("%q: %v", s, err)
	}
	return b
}

func b64(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

func TestRFC8188Examples(t *testing.T) {
	for name, c := range map[string]struct {
		key, keyID string
		rs         int
		body       string
		padded     bool
	}{
		"§3.1, one record": {
			key: "yqdlZ-tYemfogSmv7Ws5PQ", rs: 4096,
			body: "I1BsxtFttlv3u_Oo94xnmwAAEAAA-NAVub2qFgBEuQKRapoZu-IxkIva3MEB1PD-ly8Thjg",
		},
		"§3.2, two records, the first padded": {
			key: "BO3ZVPxUlnLORbVGMpbT1Q", keyID: "a1", rs: 25, padded: true,
			body: "uNCkWiNYzKTnBN9ji3-qWAAAABkCYTHOG8chz_gnvgOqdGYovxyjuqRyJFjEDyoF1Fvkj6hQPdPHI51OEUKEpgz3SsLWIqS_uA",
		},
	} {
		t.Run(name, func(t *testing.T) {
			const text = "I am the walrus"
			body := unb64(t, c.body)
			got, err := aes128gcm.Decrypt(body, func(keyID []byte) ([]byte, error) {
				if string(keyID) != c.keyID {
					t.Errorf("key id is %q, want %q", keyID, c.keyID)
				}
				return unb64(t, c.key), nil
			})
			if err != nil || string(got) != text {
				t.Fatalf("decrypted %q, %v; want %q", got, err, text)
			}
			if c.padded {
				return // Encrypt pads nothing
			}
			again, err := aes128gcm.Encrypt([]byte(text), unb64(t, c.key), body[:aes128gcm.SaltLen], []byte(c.keyID), c.rs)
			if err != nil || !bytes.Equal(again, body) {
				t.Errorf("encrypted %s, %v; want %s", b64(again), err, c.body)
			}
		})
	}
}

// The example of RFC 8291 §5, whose steps are in its Appendix A.
const (
	rfcText   = "When I grow up, I want to be a watermelon"
	rfcAuth   = "BTBZMqHH6r4Tts7J_aSIgg"
	rfcDevice = "q1dXpw3UpT5VOmu_cf_v6ih07Aems3njxI-JWgLcM94"
	rfcPublic = "BCVxsr7N_eNgVRqvHtD0zTZsEc6-VV-JvLexhqUzORcxaOzi6-AYWXvTBHm4bjyPjs7Vd8pZGH6SRpkNtoIAiw4"
	rfcSender = "yfWPiYE-n46HLnH0KqZOF1fJJU3MYrct3AELtAQ-oRw"
	rfcSalt   = "DGv6ra1nlYgDCS1FRnbzlw"
	rfcBody   = "DGv6ra1nlYgDCS1FRnbzlwAAEABBBP4z9KsN6nGRTbVYI_c7VJSPQTBtkgcy27mlmlMoZIIg" +
		"Dll6e3vCYLocInmYWAmS6TlzAC8wEqKK6PBru3jl7A_yl95bQpu6cVPTpK4Mqgkf1CXztLVBSt2Ks3oZwbuwXPXLWyouBWLVWGNWQexSgSxsj_Qulcy4a-fN"
)

func private(t testing.TB, s string) *ecdh.PrivateKey {
	t.Helper()
	k, err := ecdh.P256().NewPrivateKey(unb64(t, s))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func TestRFC8291Example(t *testing.T) {
	device, err := aes128gcm.ParseDevice(rfcPublic, rfcAuth)
	if err != nil {
		t.Fatal(err)
	}
	body, err := device.SealWith([]byte(rfcText), private(t, rfcSender), unb64(t, rfcSalt), 0)
	if err != nil || b64(body) != rfcBody {
		t.Errorf("sealed %s, %v; want %s", b64(body), err, rfcBody)
	}
	plain, err := aes128gcm.Open(unb64(t, rfcBody), private(t, rfcDevice), unb64(t, rfcAuth))
	if err != nil || string(plain) != rfcText {
		t.Errorf("opened %q, %v; want %q", plain, err, rfcText)
	}
}

func TestSealIsOpenedByTheDeviceAlone(t *testing.T) {
	device, other := private(t, rfcDevice), newKey(t)
	auth := unb64(t, rfcAuth)
	for _, n := range []int{0, 1, 62, 63, 64, 1000, aes128gcm.MaxPlain - 1, aes128gcm.MaxPlain} {
		text := bytes.Repeat([]byte("x"), n)
		body, err := aes128gcm.Seal(text, rfcPublic, rfcAuth)
		if err != nil {
			t.Fatalf("%d octets: %v", n, err)
		}
		if len(body) != aes128gcm.SealedLen(n) || len(body) > aes128gcm.Record {
			t.Errorf("%d octets made %d, SealedLen says %d", n, len(body), aes128gcm.SealedLen(n))
		}
		plain, err := aes128gcm.Open(body, device, auth)
		if err != nil || !bytes.Equal(plain, text) {
			t.Errorf("%d octets: opened %d, %v", n, len(plain), err)
		}
		if _, err := aes128gcm.Open(body, other, auth); !errors.Is(err, aes128gcm.ErrMalformed) {
			t.Errorf("another key opened it: %v", err)
		}
		if _, err := aes128gcm.Open(body, device, make([]byte, aes128gcm.AuthLen)); !errors.Is(err, aes128gcm.ErrMalformed) {
			t.Errorf("another secret opened it: %v", err)
		}
	}
	if _, err := aes128gcm.Seal(make([]byte, aes128gcm.MaxPlain+1), rfcPublic, rfcAuth); !errors.Is(err, aes128gcm.ErrTooLong) {
		t.Errorf("one octet too many: %v", err)
	}
}

func newKey(t testing.TB) *ecdh.PrivateKey {
	t.Helper()
	k, err := ecdh.P256().GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// Texts of nearly one length have one length on the wire, and no two bodies
// share a key or a salt.
func TestSealTellsNeitherLengthNorRepetition(t *testing.T) {
	lengths := map[int]bool{}
	heads := map[string]bool{}
	for n := range 63 {
		body, err := aes128gcm.Seal(make([]byte, n), rfcPublic, rfcAuth)
		if err != nil {
			t.Fatal(err)
		}
		lengths[len(body)] = true
		heads[string(body[:aes128gcm.SaltLen])] = true
	}
	if len(lengths) != 1 || len(heads) != 63 {
		t.Errorf("63 texts have %d lengths and %d salts, want 1 and 63", len(lengths), len(heads))
	}
}

func TestParseDeviceRefuses(t *testing.T) {
	off := unb64(t, rfcPublic)
	off[64] ^= 1
	for name, c := range map[string]struct{ key, auth, want string }{
		"no key":           {"", rfcAuth, "device key must be 65 octets"},
		"a short key":      {rfcPublic[:86], rfcAuth, "device key must be 65 octets"},
		"a key not base64": {strings.Repeat("!", 87), rfcAuth, "device key must be 65 octets"},
		"no point":         {b64(off), rfcAuth, "device key is no point of P-256"},
		"no secret":        {rfcPublic, "", "secret must be 16 octets"},
		"a long secret":    {rfcPublic, rfcAuth + "AA", "secret must be 16 octets"},
	} {
		_, err := aes128gcm.ParseDevice(c.key, c.auth)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want one with %q", name, err, c.want)
		}
		if err != nil && len(c.auth) > 8 && strings.Contains(err.Error(), c.auth) {
			t.Errorf("%s: the error quotes the secret: %v", name, err)
		}
	}
	if _, err := aes128gcm.ParseDevice(rfcPublic+"=", rfcAuth+"=="); err != nil {
		t.Errorf("padded base64url: %v", err)
	}
	if _, err := (aes128gcm.Device{}).Seal(nil); err == nil {
		t.Error("a device without a key was sealed for")
	}
}

// Whatever changes on the way is noticed: no octet may differ, none may be
// missing and none may follow; records neither.
func TestChangedBodiesAreRefused(t *testing.T) {
	body, device, auth := unb64(t, rfcBody), private(t, rfcDevice), unb64(t, rfcAuth)
	refused := func(what string, b []byte) {
		t.Helper()
		if plain, err := aes128gcm.Open(b, device, auth); !errors.Is(err, aes128gcm.ErrMalformed) {
			t.Errorf("%s: opened %q, %v", what, plain, err)
		}
	}
	for i := range body {
		if 16 <= i && i < 20 {
			continue // the record size may be any that holds the record
		}
		changed := bytes.Clone(body)
		changed[i] ^= 0x40
		refused("an octet changed", changed)
	}
	for n := range body {
		refused("cut off", body[:n])
	}
	refused("longer", append(bytes.Clone(body), 0))
	small := bytes.Clone(body)
	copy(small[16:20], []byte{0, 0, 0, 17})
	refused("a record size too small for any record", small)
	copy(small[16:20], []byte{0, 0, 0, 40})
	refused("two records", small)

	ikm, salt := make([]byte, 16), make([]byte, aes128gcm.SaltLen)
	key := func([]byte) ([]byte, error) { return ikm, nil }
	three, err := aes128gcm.Encrypt([]byte("0123456789"), ikm, salt, nil, 21) // 4+4+2
	if err != nil {
		t.Fatal(err)
	}
	if plain, err := aes128gcm.Decrypt(three, key); err != nil || string(plain) != "0123456789" {
		t.Fatalf("three records: %q, %v", plain, err)
	}
	for name, b := range map[string][]byte{
		"the last record missing": three[:21+42],
		"a record missing":        append(bytes.Clone(three[:21+21]), three[21+42:]...),
		"records exchanged":       append(append(bytes.Clone(three[:21]), three[42:63]...), three[21:42]...),
	} {
		if plain, err := aes128gcm.Decrypt(b, key); !errors.Is(err, aes128gcm.ErrMalformed) {
			t.Errorf("%s: %q, %v", name, plain, err)
		}
	}
}

func TestEncryptRefuses(t *testing.T) {
	salt := make([]byte, aes128gcm.SaltLen)
	for name, f := range map[string]func() ([]byte, error){
		"a short salt":   func() ([]byte, error) { return aes128gcm.Encrypt(nil, nil, salt[1:], nil, 4096) },
		"a long key id":  func() ([]byte, error) { return aes128gcm.Encrypt(nil, nil, salt, make([]byte, 256), 4096) },
		"a small record": func() ([]byte, error) { return aes128gcm.Encrypt(nil, nil, salt, nil, 17) },
	} {
		if b, err := f(); err == nil {
			t.Errorf("%s: encrypted %d octets", name, len(b))
		}
	}
}

func FuzzOpen(f *testing.F) {
	f.Add(unb64(f, rfcBody))
	f.Add(unb64(f, rfcBody)[:86])
	device, auth := private(f, rfcDevice), unb64(f, rfcAuth)
	f.Fuzz(func(t *testing.T, body []byte) {
		plain, err := aes128gcm.Open(body, device, auth)
		if err == nil && len(plain) >= len(body) {
			t.Errorf("%d octets opened to %d", len(body), len(plain))
		}
	})
}

// Whatever is encrypted in whatever records decrypts to itself.
func FuzzRecords(f *testing.F) {
	f.Add([]byte("I am the walrus"), []byte("a1"), uint16(25))
	f.Add([]byte{}, []byte{}, uint16(18))
	f.Fuzz(func(t *testing.T, plain, keyID []byte, rs uint16) {
		ikm, salt := make([]byte, 16), make([]byte, aes128gcm.SaltLen)
		body, err := aes128gcm.Encrypt(plain, ikm, salt, keyID, int(rs))
		if err != nil {
			return
		}
		got, err := aes128gcm.Decrypt(body, func(id []byte) ([]byte, error) {
			if !bytes.Equal(id, keyID) {
				t.Errorf("key id %x became %x", keyID, id)
			}
			return ikm, nil
		})
		if err != nil || !bytes.Equal(got, plain) {
			t.Errorf("%d octets in records of %d came back as %d, %v", len(plain), rs, len(got), err)
		}
	})
}

func BenchmarkSeal(b *testing.B) {
	d, err := aes128gcm.ParseDevice(rfcPublic, rfcAuth)
	if err != nil {
		b.Fatal(err)
	}
	text := make([]byte, 600)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := d.Seal(text); err != nil {
			b.Fatal(err)
		}
	}
}
