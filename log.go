package abaca

import (
	"context"
	"log/slog"
	"slices"
)

// logKey is under which a context holds the []slog.Attr that lines logged with it carry.
type logKey struct{}

// LogWith returns a context whose log lines carry more attributes, given as to slog: ids of what the context's work is about and
// who asked for it. They go into traces too, so they are no secrets and no names that a tenant chose. A key given again replaces the earlier.
func LogWith(ctx context.Context, args ...any) context.Context {
	var r slog.Record
	r.Add(args...)
	attrs := slices.Clone(LogAttrs(ctx))
	r.Attrs(func(a slog.Attr) bool {
		attrs = slices.DeleteFunc(attrs, func(b slog.Attr) bool { return a.Key == b.Key })
		attrs = append(attrs, a)
		return true
	})
	return context.WithValue(ctx, logKey{}, attrs)
}

// LogAttrs returns the attributes that LogWith has put into a context; they are not to be changed.
func LogAttrs(ctx context.Context) []slog.Attr {
	attrs, _ := ctx.Value(logKey{}).([]slog.Attr)
	return attrs
}

// LogHandler returns a handler that adds to each line the attributes of its context which it does not have by itself.
func LogHandler(h slog.Handler) slog.Handler {
	if h, ok := h.(logHandler); ok {
		return h
	}
	return logHandler{Handler: h}
}

type logHandler struct {
	slog.Handler
	own []string // keys that every line of the logger has
}

func (h logHandler) Handle(ctx context.Context, r slog.Record) error {
	attrs := LogAttrs(ctx)
	if len(attrs) == 0 {
		return h.Handler.Handle(ctx, r)
	}
	own := slices.Clone(h.own)
	r.Attrs(func(a slog.Attr) bool { own = append(own, a.Key); return true })
	r = r.Clone()
	for _, a := range attrs {
		if !slices.Contains(own, a.Key) {
			r.AddAttrs(a)
		}
	}
	return h.Handler.Handle(ctx, r)
}

func (h logHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	own := slices.Clone(h.own)
	for _, a := range attrs {
		own = append(own, a.Key)
	}
	return logHandler{Handler: h.Handler.WithAttrs(attrs), own: own}
}

func (h logHandler) WithGroup(name string) slog.Handler {
	return logHandler{Handler: h.Handler.WithGroup(name), own: h.own}
}
