package server_test

import (
	"context"
	"encoding/hex"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"abaca/internal/server"
	"abaca/internal/test/s3"
	"abaca/internal/test/serve"
)

// refused opens a server that must not start, and returns the one line that says why.
func refused(t *testing.T, c server.Config) string {
	t.Helper()
	s, err := server.Open(context.Background(), c, c.Logger())
	if err == nil {
		t.Error("it has started")
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		return ""
	}
	if strings.Contains(err.Error(), "\n") {
		t.Errorf("it is told in several lines: %v", err)
	}
	return err.Error()
}

func TestAServerThatItsBucketRefusesDoesNotStart(t *testing.T) {
	bucket, secure := s3.Start(t), s3.StartTLS(t)
	skewed := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusForbidden)
		fmt.Fprint(w, `<Error><Code>RequestTimeTooSkewed</Code><Message>The difference is too large.</Message></Error>`)
	}))
	t.Cleanup(skewed.Close)
	for why, change := range map[string]func(id, secret *string, settings map[string]any){
		"the credentials are refused":        func(_, secret *string, _ map[string]any) { *secret += "x" },
		"No user exists":                     func(id, _ *string, _ map[string]any) { *id += "x" },
		"there is no such bucket":            func(_, _ *string, s map[string]any) { s["repository"] = "s3://another/abaca" },
		"it is in another region":            func(_, _ *string, s map[string]any) { s["s3.region"] = "eu-west-9" },
		"it does not speak TLS":              func(_, _ *string, s map[string]any) { s["s3.endpoint"] = bucket.Endpoint },
		"its certificate cannot be verified": func(_, _ *string, s map[string]any) { s["s3.endpoint"] = secure.Endpoint },
		"this machine's clock is wrong":      func(_, _ *string, s map[string]any) { s["s3.endpoint"] = skewed.URL },
	} {
		t.Run(why, func(t *testing.T) {
			id, secret := bucket.AccessKey, bucket.SecretKey
			settings := map[string]any{
				"data_dir": t.TempDir(), "listen": "127.0.0.1:0", "repository": "s3://" + s3.Name + "/abaca", "s3.endpoint": "http://" + bucket.Endpoint,
			}
			change(&id, &secret, settings)
			c, err := server.Load("", []string{"AWS_ACCESS_KEY_ID=" + id, "AWS_SECRET_ACCESS_KEY=" + secret}, settings)
			if err != nil {
				t.Fatal(err)
			}
			said := refused(t, c)
			if !strings.HasPrefix(said, "repository: s3://") || !strings.Contains(said, why) || strings.Contains(said, secret) {
				t.Errorf("it says %q", said)
			}
		})
	}
}

func TestAServerWithAnotherMasterKeyDoesNotStart(t *testing.T) {
	for _, place := range []string{"a directory", "a bucket"} {
		t.Run(place, func(t *testing.T) {
			c, err := serve.Config(t.TempDir())
			if err != nil {
				t.Fatal(err)
			}
			if place == "a bucket" {
				c = inBucket(t, s3.Start(t))
			}
			s := serve.StartWith(t, c)
			s.NewBackup(s.NewShare("docs"))
			s.Stop()
			key := filepath.Join(c.DataDir, "master.key")
			right, err := os.ReadFile(key)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(key, []byte(hex.EncodeToString(make([]byte, 32))+"\n"), 0o600); err != nil {
				t.Fatal(err)
			}
			if said := refused(t, c); !strings.Contains(said, "with another master key") {
				t.Errorf("it says %q", said)
			}
			if err := os.WriteFile(key, right, 0o600); err != nil {
				t.Fatal(err)
			}
			serve.StartWith(t, c)
		})
	}
}

func TestABucketThatIsAwayHoldsNobodyUp(t *testing.T) {
	bucket := s3.Start(t)
	c := inBucket(t, bucket)
	bucket.Stop()
	s := serve.StartWith(t, c)
	share := s.NewShare("docs")
	bucket.Restart(t)
	s.NewBackup(share)
}
