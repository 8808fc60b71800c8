package server

import (
	"net/http/httptest"
	"testing"
)

func TestOnlyThisMachineItselfIsLocal(t *testing.T) {
	for _, test := range []struct {
		says, peer, host, header string
		local                    bool
	}{
		{"the machine by its address", "127.0.0.1:4000", "127.0.0.1:8786", "", true},
		{"the machine by its name", "[::1]:4000", "localhost:8786", "", true},
		{"another address of the loopback", "127.8.0.1:4000", "[::1]", "", true},
		{"another machine", "192.0.2.1:4000", "127.0.0.1:8786", "", false},
		{"a web page's name for this machine", "127.0.0.1:4000", "rebound.example:8786", "", false},
		{"a proxy that says for whom", "127.0.0.1:4000", "127.0.0.1", "X-Forwarded-For", false},
		{"a proxy that says so as the standard has it", "127.0.0.1:4000", "127.0.0.1", "Forwarded", false},
		{"a proxy that says that it is one", "127.0.0.1:4000", "127.0.0.1", "Via", false},
		{"a proxy that says what it was asked", "127.0.0.1:4000", "127.0.0.1", "X-Forwarded-Host", false},
		{"a peer without an address", "", "127.0.0.1", "", false},
	} {
		t.Run(test.says, func(t *testing.T) {
			r := httptest.NewRequest("GET", "/metrics", nil)
			r.RemoteAddr, r.Host = test.peer, test.host
			if test.header != "" {
				r.Header.Set(test.header, "192.0.2.1")
			}
			if got := isLocal(r); got != test.local {
				t.Errorf("local: %v", got)
			}
		})
	}
}
