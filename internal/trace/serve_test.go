package trace_test

import (
	"context"
	"encoding/hex"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	otlp "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"

	"abaca/internal/server"
	"abaca/internal/test/serve"
)

// A receiver is a collector of traces.
type receiver struct {
	*httptest.Server
	t testing.TB

	mu      sync.Mutex
	spans   []*otlp.Span
	service string
	raw     strings.Builder // all that was received
}

// receive starts a collector and has servers that are configured from now on send to it.
func receive(t *testing.T) *receiver {
	r := &receiver{t: t}
	r.Server = httptest.NewServer(r)
	t.Cleanup(r.Close)
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", r.URL)
	t.Setenv("OTEL_SERVICE_NAME", "abaca-here")
	return r
}

func (r *receiver) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	body, err := io.ReadAll(req.Body)
	var batch collector.ExportTraceServiceRequest
	if err == nil {
		err = proto.Unmarshal(body, &batch)
	}
	if err != nil || req.Method != http.MethodPost || req.URL.Path != "/v1/traces" {
		r.t.Errorf("%s %s: %v", req.Method, req.URL, err)
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.raw.WriteString(batch.String())
	for _, resource := range batch.ResourceSpans {
		for _, a := range resource.Resource.Attributes {
			if a.Key == "service.name" {
				r.service = a.Value.GetStringValue()
			}
		}
		for _, scope := range resource.ScopeSpans {
			r.spans = append(r.spans, scope.Spans...)
		}
	}
	w.Header().Set("Content-Type", "application/x-protobuf")
}

// span returns the only span of a name that has this value of an attribute.
func (r *receiver) span(name, key, value string) *otlp.Span {
	r.t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	var found []*otlp.Span
	for _, s := range r.spans {
		if s.Name == name && attribute(s, key) == value {
			found = append(found, s)
		}
	}
	if len(found) != 1 {
		r.t.Fatalf("there are %d spans %s with %s=%s", len(found), name, key, value)
	}
	return found[0]
}

func attribute(s *otlp.Span, key string) string {
	for _, a := range s.Attributes {
		if a.Key == key {
			return a.Value.GetStringValue()
		}
	}
	return ""
}

func start(t *testing.T, dir string, options ...server.Option) *serve.Server {
	t.Helper()
	c, err := server.Load("", os.Environ(), map[string]any{"data_dir": dir, "listen": "127.0.0.1:0", "workers.lease": "4s", "workers.backoff": "10ms"})
	if err != nil {
		t.Fatal(err)
	}
	return serve.StartWith(t, c, options...)
}

// foreign is what a client traces its request under.
const foreign = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00"

// backUp starts a backup and returns its id and its request's.
func backUp(t *testing.T, s *serve.Server, share string) (backup, request string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), "POST", s.URL+"/v2/share-backups", strings.NewReader(`{"share_backup": {"share_id": "`+share+`"}}`))
	if err != nil {
		t.Fatal(err)
	}
	for key, value := range map[string]string{
		"X-Auth-Token": "admin:admin", "Content-Type": "application/json", "X-OpenStack-Manila-API-Version": "2.99",
		"X-OpenStack-Manila-API-Experimental": "true", "Traceparent": foreign,
	} {
		r.Header.Set(key, value)
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != 202 {
		t.Fatalf("%d", resp.StatusCode)
	}
	_, answer := s.Do("GET", "/share-backups?share_id="+share, nil)
	return answer["share_backups"].([]any)[0].(map[string]any)["id"].(string), resp.Header.Get("x-openstack-request-id")
}

func TestARequestAndItsWorkAreInOneTraceWhicheverProcessDoesIt(t *testing.T) {
	r := receive(t)
	dir := t.TempDir()
	inside := make(chan struct{}, 1)
	first := start(t, dir, server.WithStep(func(ctx context.Context, name string) error {
		if name != "create_backup: opened" {
			return nil
		}
		inside <- struct{}{}
		<-ctx.Done()
		return ctx.Err()
	}))
	share := first.NewShare("a-name-of-a-tenant")
	if err := os.WriteFile(filepath.Join(first.Share(share), "a-name-of-a-file"), []byte("content"), 0o600); err != nil {
		t.Fatal(err)
	}
	backup, request := backUp(t, first, share)
	<-inside
	first.Stop()
	second := start(t, dir)
	second.AtRest("/share-backups/"+backup, "share_backup", "available")
	if err := os.RemoveAll(second.Share(share)); err != nil {
		t.Fatal(err)
	}
	failed, failedRequest := backUp(t, second, share)
	second.AtRest("/share-backups/"+failed, "share_backup", "error")
	second.Stop() // which sends what is left

	if r.service != "abaca-here" {
		t.Errorf("the service is %q", r.service)
	}
	asked := r.span("POST /v2/share-backups", "request_id", request)
	if asked.ParentSpanId != nil || len(asked.Links) != 1 || hex.EncodeToString(asked.Links[0].TraceId) != strings.Split(foreign, "-")[1] {
		t.Errorf("what the client traces is not a link alone: %v", asked)
	}
	for outcome, status := range map[string]otlp.Status_StatusCode{"interrupted": otlp.Status_STATUS_CODE_UNSET, "done": otlp.Status_STATUS_CODE_UNSET} {
		var work *otlp.Span
		for _, s := range r.spans {
			if s.Name == "create_backup" && attribute(s, "request_id") == request && attribute(s, "outcome") == outcome {
				work = s
			}
		}
		if work == nil {
			t.Fatalf("no work of the request has been %s", outcome)
		}
		if string(work.TraceId) != string(asked.TraceId) || len(work.Links) != 1 || string(work.Links[0].SpanId) != string(asked.SpanId) ||
			work.Status.GetCode() != status || attribute(work, "share_backup_id") != backup {
			t.Errorf("the work that was %s is %v of %v", outcome, work, asked)
		}
		if outcome == "done" {
			save := r.span("save", "request_id", request)
			if string(save.TraceId) != string(asked.TraceId) || string(save.ParentSpanId) != string(work.SpanId) {
				t.Errorf("the engine's part is %v", save)
			}
		}
	}
	var outcomes []string
	for _, s := range r.spans {
		if s.Name == "create_backup" && attribute(s, "request_id") == failedRequest {
			outcomes = append(outcomes, attribute(s, "outcome"))
			if s.Status.GetCode() != otlp.Status_STATUS_CODE_ERROR {
				t.Errorf("work that failed is %v", s)
			}
		}
	}
	if got := strings.Join(outcomes, " "); got != "retried retried failed" {
		t.Errorf("what failed was %s", got)
	}
	for _, secret := range []string{"a-name-of", "content\"", dir, "admin:admin"} {
		if strings.Contains(r.raw.String(), secret) {
			t.Errorf("the traces hold %q", secret)
		}
	}
}

func TestACollectorThatIsAwayHoldsNothingUp(t *testing.T) {
	r := receive(t)
	r.Close()
	s := start(t, t.TempDir())
	share := s.NewShare("docs")
	s.NewBackup(share)
	s.Stop() // without an error
}

func TestWithoutAWishForTracesNoneAreSent(t *testing.T) {
	r := receive(t)
	t.Setenv("OTEL_TRACES_EXPORTER", "none")
	s := start(t, t.TempDir())
	s.NewShare("docs")
	s.Stop()
	if len(r.spans) > 0 {
		t.Errorf("there are %d", len(r.spans))
	}
}
