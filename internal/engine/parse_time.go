package engine

import (
	"time"

	"abaca/internal/posix"
)

// time reads RFC 3339. All times were written in UTC.
func (p *parser) time() posix.Time {
	s := p.string()
	if p.err != nil {
		return posix.Time{}
	}
	if t, ok := utcTime(s); ok {
		return t
	}
	var t time.Time
	if err := t.UnmarshalText(s); err != nil {
		p.fail("time %q", s)
		return posix.Time{}
	}
	return posix.Time{Sec: t.Unix(), Nsec: uint32(t.Nanosecond())}
}

// utcTime reads the form in which times are written here, years 1 to 9999; ok is false for all others, right or wrong.
func utcTime(s []byte) (t posix.Time, ok bool) {
	const form = "0000-00-00T00:00:00"
	if len(s) <= len(form) || s[len(s)-1] != 'Z' {
		return t, false
	}
	for i := range len(form) {
		if isDigit := s[i]-'0' <= 9; isDigit != (form[i] == '0') || !isDigit && s[i] != form[i] {
			return t, false
		}
	}
	two := func(i int) int64 { return int64(s[i]-'0')*10 + int64(s[i+1]-'0') }
	year, month, day := two(0)*100+two(2), two(5), two(8)
	hour, minute, second := two(11), two(14), two(17)
	if year == 0 || month < 1 || month > 12 || day < 1 || day > 28 && day > daysOf(year, month) || hour > 23 || minute > 59 || second > 59 {
		return t, false
	}
	fraction := s[len(form) : len(s)-1]
	if len(fraction) == 1 || len(fraction) > 10 || len(fraction) > 0 && fraction[0] != '.' {
		return t, false
	}
	unit := uint32(100_000_000)
	for i := 1; i < len(fraction); i++ {
		c := fraction[i] - '0'
		if c > 9 {
			return t, false
		}
		t.Nsec += uint32(c) * unit
		unit /= 10
	}
	t.Sec = daysSince1970(year, month, day)*86400 + hour*3600 + minute*60 + second
	return t, true
}

// daysOf says how many days a month has.
func daysOf(year, month int64) int64 {
	if month == 2 && year%4 == 0 && (year%100 != 0 || year%400 == 0) {
		return 29
	}
	return [...]int64{31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31}[month-1]
}

// daysSince1970 counts in years that begin in March, so that the leap day is a year's last.
func daysSince1970(year, month, day int64) int64 {
	month -= 3
	if month < 0 {
		month, year = month+12, year-1
	}
	dayOfYear := (153*month+2)/5 + day - 1
	return year*365 + year/4 - year/100 + year/400 + dayOfYear - 719468
}
