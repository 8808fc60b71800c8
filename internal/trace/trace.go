// Package trace tells an OpenTelemetry collector what the server does and how long each part of it takes. It is the only user of
// OpenTelemetry's SDK. The standard OTEL_* variables alone configure it; without any it costs nothing.
//
// Spans hold ids, counts and names of the program's own, never a secret, an error's text, or a name that a tenant chose.
package trace

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/sdk/resource"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"

	"abaca"
)

// A Tracer makes spans; nil is one that makes none.
type Tracer struct {
	tracer   trace.Tracer
	provider *sdk.TracerProvider
}

// Wanted reports whether the environment asks for traces: with OTEL_TRACES_EXPORTER=otlp, or an endpoint to send them to. A variable
// that asks for what this program has not is an error.
func Wanted(getenv func(string) string) (bool, error) {
	first := func(names ...string) string {
		for _, name := range names {
			if v := getenv(name); v != "" {
				return v
			}
		}
		return ""
	}
	if strings.EqualFold(getenv("OTEL_SDK_DISABLED"), "true") {
		return false, nil
	}
	switch exporter := getenv("OTEL_TRACES_EXPORTER"); exporter {
	case "otlp":
	case "":
		if first("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT") == "" {
			return false, nil
		}
	case "none":
		return false, nil
	default:
		return false, fmt.Errorf("OTEL_TRACES_EXPORTER: %q is not an exporter; there are otlp and none", exporter)
	}
	switch protocol := first("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"); protocol {
	case "", "http/protobuf", "http/json":
		return true, nil
	default:
		return false, fmt.Errorf("OTEL_EXPORTER_OTLP_PROTOCOL: %q is not a protocol; there are http/protobuf and http/json", protocol)
	}
}

// Open makes a Tracer as the process's environment has it. A collector that cannot be reached is told of in the log, never waited for.
func Open(ctx context.Context, log *slog.Logger) (*Tracer, error) {
	exporter, err := otlptracehttp.New(ctx)
	if err != nil {
		return nil, fmt.Errorf("traces: %w", err)
	}
	about, err := resource.New(ctx, resource.WithAttributes(attribute.String("service.name", "abaca")), resource.WithTelemetrySDK(),
		resource.WithFromEnv())
	if err != nil {
		return nil, errors.Join(fmt.Errorf("traces: OTEL_RESOURCE_ATTRIBUTES: %w", err), exporter.Shutdown(ctx))
	}
	otel.SetErrorHandler(otel.ErrorHandlerFunc(func(err error) { log.WarnContext(ctx, "traces are not sent", "error", err) }))
	// It is not made the SDK's global one: libraries that trace by themselves put names of files into their spans.
	provider := sdk.NewTracerProvider(sdk.WithBatcher(exporter), sdk.WithResource(about), sdk.WithIDGenerator(ids{}))
	return &Tracer{tracer: provider.Tracer("abaca"), provider: provider}, nil
}

// Close sends what has not been sent.
func (t *Tracer) Close(ctx context.Context) error {
	if t == nil {
		return nil
	}
	return t.provider.Shutdown(ctx)
}

// Request begins the span of a request, whose id the context's log attributes have. What the caller traces it under is a link, since
// strangers' headers decide neither which trace it is in nor whether it is kept. answered ends it.
func (t *Tracer) Request(ctx context.Context, header http.Header) (_ context.Context, answered func(method, route string, status int)) {
	if t == nil {
		return ctx, func(string, string, int) {}
	}
	options := []trace.SpanStartOption{trace.WithSpanKind(trace.SpanKindServer), trace.WithAttributes(attributes(ctx)...)}
	carrier := propagation.TraceContext{}.Extract(ctx, propagation.HeaderCarrier(header))
	if from := trace.SpanContextFromContext(carrier); from.IsValid() {
		options = append(options, trace.WithLinks(trace.Link{SpanContext: from}))
	}
	own, span := t.tracer.Start(context.WithValue(ctx, ownSpan{}, true), "request", options...)
	ctx = trace.ContextWithSpan(ctx, trace.SpanFromContext(own))
	return ctx, func(method, route string, status int) {
		span.SetName(method + " " + route)
		span.SetAttributes(attribute.String("http.request.method", method), attribute.String("http.route", route),
			attribute.Int("http.response.status_code", status))
		if status >= http.StatusInternalServerError {
			span.SetStatus(codes.Error, "")
		}
		span.End()
	}
}

// Work begins the span of a worker's work, in the trace of the request that asked for it and linked with that. ended ends it.
func (t *Tracer) Work(ctx context.Context, name string) (_ context.Context, ended func(outcome string)) {
	if t == nil {
		return ctx, func(string) {}
	}
	options := []trace.SpanStartOption{trace.WithSpanKind(trace.SpanKindConsumer), trace.WithNewRoot(), trace.WithAttributes(attributes(ctx)...)}
	if request := requestOf(ctx); request != "" {
		traceID, spanID := requestIDs(request)
		options = append(options, trace.WithLinks(trace.Link{SpanContext: trace.NewSpanContext(trace.SpanContextConfig{
			TraceID: traceID, SpanID: spanID, Remote: true,
		})}))
	}
	ctx, span := t.tracer.Start(ctx, name, options...)
	return ctx, func(outcome string) {
		span.SetAttributes(attribute.String("outcome", outcome))
		if outcome == abaca.OutcomeFailed || outcome == abaca.OutcomeRetried {
			span.SetStatus(codes.Error, outcome)
		}
		span.End()
	}
}

// Part begins a span of something that is done within a request or work. ended ends it, with counts and with how it went.
func (t *Tracer) Part(ctx context.Context, name string) (_ context.Context, ended func(err error, counts map[string]int64)) {
	if t == nil {
		return ctx, func(error, map[string]int64) {}
	}
	ctx, span := t.tracer.Start(ctx, name, trace.WithAttributes(attributes(ctx)...))
	return ctx, func(err error, counts map[string]int64) {
		for key, n := range counts {
			span.SetAttributes(attribute.Int64(key, n))
		}
		if err != nil {
			span.SetStatus(codes.Error, "") // its text may name files
		}
		span.End()
	}
}

// attributes are those that the context's log lines have.
func attributes(ctx context.Context) []attribute.KeyValue {
	var list []attribute.KeyValue
	for _, a := range abaca.LogAttrs(ctx) {
		switch a.Value.Kind() {
		case slog.KindInt64:
			list = append(list, attribute.Int64(a.Key, a.Value.Int64()))
		default:
			list = append(list, attribute.String(a.Key, a.Value.String()))
		}
	}
	return list
}
