package engine

import (
	"math/rand/v2"
	"strconv"
	"testing"
	"time"

	"abaca/internal/posix"
)

func TestEveryDayIsReadAsTheTimePackageReadsIt(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(1, 2))
	end := time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC)
	for day := time.Date(1, 1, 1, 0, 0, 0, 0, time.UTC); day.Before(end); day = day.AddDate(0, 0, 1) {
		at := day.Add(time.Duration(r.Int64N(86400))*time.Second + time.Duration(r.Int64N(1e9)/[]int64{1, 1000, 1e9}[r.IntN(3)]))
		text := at.AppendFormat(nil, time.RFC3339Nano)
		if got, ok := utcTime(text); !ok || got != posix.TimeOf(at) {
			t.Fatalf("%s is read as %v, %v", text, got, ok)
		}
	}
}

func FuzzTimesAreReadAsTheTimePackageReadsThem(f *testing.F) {
	for _, s := range []string{
		"2026-11-23T21:00:00Z", "2026-11-23T21:00:00.123456789Z", "1900-02-29T00:00:00Z", "2000-02-29T00:00:00Z", "2026-02-30T00:00:00Z",
		"2026-13-01T00:00:00Z", "2026-11-31T00:00:00Z", "2026-11-23T24:00:00Z", "2026-11-23T21:00:60Z", "0000-01-01T00:00:00Z",
		"2026-11-23T21:00:00.Z", "2026-11-23T21:00:00+01:00", "2026-11-23T21:00:00.1234567891Z", "2026-11-23 21:00:00Z", "", "Z",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got, ok := utcTime([]byte(s))
		p := parser{b: strconv.AppendQuote(nil, s)}
		var want time.Time
		err := want.UnmarshalText([]byte(s))
		if ok && (err != nil || got != posix.TimeOf(want)) {
			t.Errorf("%q is read as %v instead of %v, %v", s, got, want, err)
		}
		if slow := p.time(); p.err == nil && (err != nil || slow != posix.TimeOf(want)) {
			t.Errorf("%q is read as %v instead of %v, %v", s, slow, want, err)
		}
	})
}
