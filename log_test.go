package abaca_test

import (
	"context"
	"log/slog"
	"strings"
	"testing"

	"abaca"
)

func TestALineCarriesWhatItsContextIsAboutOnce(t *testing.T) {
	work := abaca.LogWith(abaca.LogWith(t.Context(), "request_id", "req-1", "attempt", 1), "attempt", 2)
	for _, test := range []struct {
		says string
		ctx  context.Context
		with []any
		args []any
		line string
	}{
		{"nothing without", t.Context(), nil, nil, "level=INFO msg=text"},
		{"the later of two", work, nil, nil, "level=INFO msg=text request_id=req-1 attempt=2"},
		{"what the line says itself is not said again", work, nil, []any{"attempt", 3}, "level=INFO msg=text attempt=3 request_id=req-1"},
		{"nor what the logger says", work, []any{"request_id", "own"}, nil, "level=INFO msg=text request_id=own attempt=2"},
		{"a logger of a logger", work, []any{"a", 1, "b", 2}, []any{"c", 3}, "level=INFO msg=text a=1 b=2 c=3 request_id=req-1 attempt=2"},
	} {
		t.Run(test.says, func(t *testing.T) {
			var out strings.Builder
			h := slog.NewTextHandler(&out, &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
				if a.Key == slog.TimeKey {
					return slog.Attr{}
				}
				return a
			}})
			slog.New(abaca.LogHandler(abaca.LogHandler(h))).With(test.with...).InfoContext(test.ctx, "text", test.args...)
			if got := strings.TrimSpace(out.String()); got != test.line {
				t.Errorf("got %s", got)
			}
		})
	}
}

func TestAContextIsNotChangedByThoseMadeFromIt(t *testing.T) {
	one := abaca.LogWith(t.Context(), "a", 1, "b", 2)
	abaca.LogWith(one, "a", 3)
	abaca.LogWith(one, "c", 4)
	if got := abaca.LogAttrs(one); len(got) != 2 || got[0].String() != "a=1" || got[1].String() != "b=2" {
		t.Errorf("it has %v", got)
	}
}
