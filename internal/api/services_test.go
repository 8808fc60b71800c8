package api_test

import (
	"fmt"
	"testing"
)

// ask sends a request of an administrator's at a version and returns the answer's status and body.
func (w *world) ask(version, method, path, body string) (int, map[string]any) {
	w.t.Helper()
	as := "admin"
	e := exchange{As: &as, Method: method, Path: "/v2" + path, Headers: map[string]string{
		"X-OpenStack-Manila-API-Version": version, "Content-Type": "application/json",
	}}
	if body != "" {
		e.Body = &body
	}
	got := w.send(e)
	o, _ := got.Body.(map[string]any)
	return got.Status, o
}

func (w *world) services(version, query string) (found []string) {
	w.t.Helper()
	status, body := w.ask(version, "GET", "/services"+query, "")
	if status != 200 {
		w.t.Fatalf("services: %d %v", status, body)
	}
	for _, item := range body["services"].([]any) {
		s := item.(map[string]any)
		found = append(found, fmt.Sprintf("%v %v %v %v %v %v %v", s["id"], s["binary"], s["host"], s["zone"], s["status"], s["state"], s["disabled_reason"]))
	}
	return found
}

func TestServicesAreListedSwitchedAndFoundByWhatTheyAre(t *testing.T) {
	w := newWorld(t).copy(t, false)
	worker, share := "1 manila-data worker nova enabled up <nil>", "2 manila-share abaca@local nova enabled up <nil>"
	for query, want := range map[string][]string{
		"":                         {worker, share},
		"?binary=manila-data":      {worker},
		"?host=abaca@local":        {share},
		"?state=up&zone=nova":      {worker, share},
		"?state=down":              nil,
		"?status=bogus":            nil,
		"?zone=elsewhere":          nil,
		"?status=disabled&state=x": nil,
	} {
		if got := w.services("2.99", query); fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("%q finds %q, want %q", query, got, want)
		}
	}
	status, answer := w.ask("2.99", "PUT", "/services/disable", `{"host": "abaca@local", "binary": "manila-share", "disabled_reason": "  new disks "}`)
	if fmt.Sprint(status, answer) != "200 map[binary:manila-share disabled_reason:new disks ensuring:false host:abaca@local status:disabled]" {
		t.Errorf("disabled: %d %v", status, answer)
	}
	if got := w.services("2.99", "?status=disabled"); fmt.Sprint(got) != "[2 manila-share abaca@local nova disabled up new disks]" {
		t.Errorf("disabled are %q", got)
	}
	status, answer = w.ask("2.82", "PUT", "/services/enable", `{"host": "abaca@local", "binary": "manila-share"}`)
	if fmt.Sprint(status, answer) != "200 map[binary:manila-share host:abaca@local status:enabled]" {
		t.Errorf("enabled: %d %v", status, answer)
	}
	if status, answer = w.ask("2.82", "PUT", "/services/disable", `{"host": "worker", "binary": "manila-data", "disabled_reason": "x"}`); status != 400 {
		t.Errorf("a reason before 2.83: %d %v", status, answer)
	}
	w.exec("UPDATE services SET up_until = 0")
	if got := w.services("2.99", "?state=down"); fmt.Sprint(got) != "[1 manila-data worker nova enabled down <nil> 2 manila-share abaca@local nova enabled down <nil>]" {
		t.Errorf("down are %q", got)
	}
}
