package manager

import (
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"abaca"
)

func TestSlicesOfADayLieSideBySideAndCoverEverything(t *testing.T) {
	for _, width := range []float64{0.04, 0.1, 0.3, 1.0 / 3, 0.999, 1, 1e-3, math.Nextafter(0.2, 0), math.Nextafter(0.2, 1)} {
		t.Run(fmt.Sprint(width), func(t *testing.T) {
			at := 0.0
			for days := 1; ; days++ {
				s, next := nextSlice(at, width)
				if s.From != at || s.To <= s.From || s.To > 1 || s.To-s.From > width*1.01 {
					t.Fatalf("after %v comes %+v", at, s)
				}
				if next == 0 {
					if s.To != 1 || days != int(math.Ceil(1/width-1e-6)) {
						t.Errorf("a round ends at %v after %d days", s.To, days)
					}
					return
				}
				if next != s.To {
					t.Fatalf("after %+v comes %v", s, next)
				}
				at = next
			}
		})
	}
}

func TestAShareOfNothingIsNeverLookedFor(t *testing.T) {
	m := New(Config{Now: time.Now}) // without a database to look in
	m.keepVerifying(t.Context())    // returns, although nobody stops it
}

func TestOnlyWhatNobodyHasBeenToldIsNews(t *testing.T) {
	numbered := func(from, n int) string {
		var lines []string
		for i := range n {
			lines = append(lines, fmt.Sprintf("%q: damaged", fmt.Sprint(from+i)))
		}
		return strings.Join(lines, "\n")
	}
	finding := func(damaged int64, detail string) abaca.Verification {
		return abaca.Verification{Damaged: damaged, Detail: detail}
	}
	for _, test := range []struct {
		says  string
		found abaca.Verification
		known []abaca.Verification
		news  bool
	}{
		{"the first damage is", finding(1, "a"), nil, true},
		{"the same is not", finding(1, "a"), []abaca.Verification{finding(1, "a")}, false},
		{"another file is, though there are no more than before", finding(1, "b"), []abaca.Verification{finding(1, "a")}, true},
		{"what two findings told is not when it comes together", finding(2, "a\nb"), []abaca.Verification{finding(1, "b"), finding(1, "a")}, false},
		{"less is not", finding(1, "b"), []abaca.Verification{finding(2, "a\nb")}, false},
		{"one file among many is", finding(3, "a\nb\nc"), []abaca.Verification{finding(2, "a\nb")}, true},
		{"a part of a name is not the name", finding(1, "a"), []abaca.Verification{finding(1, "aa")}, true},
		{"others of too many to name are not", finding(900, numbered(50, 100)), []abaca.Verification{finding(900, numbered(0, 100))}, false},
		{"more of too many to name are", finding(901, numbered(0, 100)), []abaca.Verification{finding(900, numbered(0, 100))}, true},
	} {
		t.Run(test.says, func(t *testing.T) {
			if got := isNews(test.found, test.known); got != test.news {
				t.Errorf("news: %v", got)
			}
		})
	}
}

func TestATenantIsToldHowMuchIsLost(t *testing.T) {
	for _, test := range []struct {
		files, damaged int64
		ids            []string
		text           string
	}{
		{9, 1, []string{"b"}, "verify share backup b: 1 file is damaged and cannot be restored as it was saved; everything else in it can:\nwhat"},
		{9, 2, []string{"b", "c"}, "verify each of the share backups b, c: 2 files are damaged and cannot be restored as they were saved; " +
			"everything else in it can:\nwhat"},
		{0, 7, []string{"b"}, "verify share backup b: all of it is damaged, and nothing can be restored from it:\nwhat"},
	} {
		v := abaca.Verified{
			Saved:        abaca.Saved{Kind: abaca.KindBackup, ID: test.ids[0]},
			Verification: abaca.Verification{Files: test.files, Damaged: test.damaged, Detail: "what"},
		}
		if got := describe(v, test.ids); got != test.text {
			t.Errorf("%d of %d: %q", test.damaged, test.files+test.damaged, got)
		}
	}
}
