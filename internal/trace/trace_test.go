package trace_test

import (
	"testing"

	"abaca/internal/trace"
)

func TestTracesAreMadeWhereTheStandardVariablesAskForThem(t *testing.T) {
	for _, test := range []struct {
		says   string
		env    map[string]string
		wanted bool
		fails  bool
	}{
		{"nothing asks", nil, false, false},
		{"a service's name alone does not", map[string]string{"OTEL_SERVICE_NAME": "x"}, false, false},
		{"an endpoint does", map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318"}, true, false},
		{"an endpoint for traces does", map[string]string{"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://c:4318/v1/traces"}, true, false},
		{"an exporter does", map[string]string{"OTEL_TRACES_EXPORTER": "otlp"}, true, false},
		{"none does not, whatever the endpoint", map[string]string{"OTEL_TRACES_EXPORTER": "none", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://c"}, false, false},
		{"an SDK that is disabled does not", map[string]string{"OTEL_SDK_DISABLED": "TRUE", "OTEL_TRACES_EXPORTER": "otlp"}, false, false},
		{"JSON will do", map[string]string{"OTEL_TRACES_EXPORTER": "otlp", "OTEL_EXPORTER_OTLP_PROTOCOL": "http/json"}, true, false},
		{"another exporter is an error", map[string]string{"OTEL_TRACES_EXPORTER": "zipkin"}, false, true},
		{"another protocol is an error", map[string]string{"OTEL_TRACES_EXPORTER": "otlp", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, false, true},
		{"the protocol of what is not made is none", map[string]string{"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, false, false},
	} {
		t.Run(test.says, func(t *testing.T) {
			wanted, err := trace.Wanted(func(name string) string { return test.env[name] })
			if wanted != test.wanted || (err != nil) != test.fails {
				t.Errorf("%v, %v", wanted, err)
			}
		})
	}
}

func TestATracerThatIsNoneDoesNothing(t *testing.T) {
	var none *trace.Tracer
	ctx, answered := none.Request(t.Context(), nil)
	answered("GET", "/", 200)
	ctx, ended := none.Work(ctx, "work")
	ended("done")
	same, over := none.Part(ctx, "part")
	over(nil, nil)
	if same != t.Context() {
		t.Error("it has made a context")
	}
	if err := none.Close(ctx); err != nil {
		t.Error(err)
	}
}
