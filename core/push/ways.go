package push

// Way is how one channel of a device would be reached now.
type Way struct {
	Channel  Channel
	Provider string
	App      string // id of the app that the token fits; "" for none
	Token    Token
	Class    string // declared or guessed
	Problem  string // why nothing can be sent; "" when it can
	Facts    []Fact // the provider's, and what the push would show
}

// Ways explains both channels of a device, the VoIP channel first. It sends
// nothing.
func (s *Service) Ways(t Target) []Way {
	ways := make([]Way, 0, 2)
	for _, n := range []need{needCall, needNote} {
		w := Way{Channel: dataChannels[n], Class: classOf(t.Class, t.Tokens)}
		r, reason := s.find(t, n)
		if r.app == nil {
			w.Problem = reason
			ways = append(ways, w)
			continue
		}
		w.Provider, w.App, w.Token = r.app.Provider, r.app.ID, r.token
		if r.channel != w.Channel {
			w.Facts = append(w.Facts, Fact{"sent by", "the device's only channel, " + string(r.channel)})
		}
		if e, ok := r.app.Sender.(Explainer); ok {
			w.Facts = append(w.Facts, e.Explain(r.token, r.channel)...)
		}
		w.Facts = append(w.Facts, Fact{"shows", r.app.viewOf(r.token, n).String()})
		ways = append(ways, w)
	}
	return ways
}

// String says in words what is shown.
func (v view) String() string {
	switch {
	case v.sealed != nil:
		return "ids; the rest is encrypted for the device"
	case v.text:
		return "ids, who it is from, and the text"
	case v.sender:
		return "ids, and who it is from"
	default:
		return "ids alone"
	}
}
