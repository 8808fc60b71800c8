package trace

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"log/slog"

	sdk "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"

	"abaca"
)

// RequestKey is the log attribute that says which request led to what is traced.
const RequestKey = "request_id"

// requestIDs are the ids of a request's trace and of its own span. They follow from the request's id alone, which is kept with the
// work: so the worker's spans are in the trace of the request, in whichever process and however much later, and nothing else is
// stored. A sampler that goes by the trace's id decides about all of them alike.
func requestIDs(request string) (t trace.TraceID, s trace.SpanID) {
	sum := sha256.Sum256([]byte(request))
	copy(t[:], sum[:16])
	copy(s[:], sum[16:])
	return t, s
}

// requestOf returns the id of the request that a context is about; empty where it is about none.
func requestOf(ctx context.Context) string {
	for _, a := range abaca.LogAttrs(ctx) {
		if a.Key == RequestKey && a.Value.Kind() == slog.KindString {
			return a.Value.String()
		}
	}
	return ""
}

// ownSpan is under which a context says that the span to be made is the request's own.
type ownSpan struct{}

// An ids makes ids for the SDK.
type ids struct{}

var _ sdk.IDGenerator = ids{}

// NewIDs is asked for a span without a parent.
func (ids) NewIDs(ctx context.Context) (t trace.TraceID, s trace.SpanID) {
	request := requestOf(ctx)
	if request == "" {
		rand.Read(t[:])
		rand.Read(s[:])
		return t, s
	}
	t, s = requestIDs(request)
	if ctx.Value(ownSpan{}) == nil {
		rand.Read(s[:])
	}
	return t, s
}

func (ids) NewSpanID(context.Context, trace.TraceID) (s trace.SpanID) {
	rand.Read(s[:])
	return s
}
