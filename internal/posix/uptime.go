package posix

import (
	"time"

	"golang.org/x/sys/unix"
)

// Uptime is how long the machine has been up. Nobody can set this clock, and unlike the runtime's own it also runs while the machine
// sleeps.
func Uptime() time.Duration {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &t); err != nil {
		panic(err) // Linux has had it since 2.6.39
	}
	return time.Duration(t.Nano())
}
