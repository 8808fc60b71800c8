package metrics

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// A State tells what is not counted but looked up. Its methods return within seconds, whatever hangs.
type State interface {
	// Waiting returns the work that waits for a worker, by operation; operations without any may be left out.
	Waiting() (map[string]Waiting, error)
	// Repositories returns how many repositories there are and the bytes they take, as they were measured last; ok is false before that.
	Repositories() (n int, bytes int64, ok bool)
}

// Waiting is how much work of one operation waits, and since when the oldest does.
type Waiting struct {
	Count int64
	Age   time.Duration
}

var (
	databaseUp = prometheus.NewDesc("abaca_database_up", "1 where the database has answered this scrape, else 0.", nil, nil)
	waiting    = prometheus.NewDesc("abaca_operations_waiting", "Work that no worker has taken up, those of other processes included.",
		[]string{"operation"}, nil)
	oldest = prometheus.NewDesc("abaca_operations_waiting_oldest_seconds", "How long the oldest work of an operation has waited; 0 where none waits.",
		[]string{"operation"}, nil)
	repositories = prometheus.NewDesc("abaca_repositories", "Repositories, of which each project with backups has one.", nil, nil)
	stored       = prometheus.NewDesc("abaca_repository_stored_bytes", "Bytes that all repositories take in their storage, measured after each round of maintenance.",
		nil, nil)
)

// A stateCollector asks the state at each scrape.
type stateCollector struct{ state State }

func (c *stateCollector) Describe(out chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{databaseUp, waiting, oldest, repositories, stored} {
		out <- d
	}
}

func (c *stateCollector) Collect(out chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, value float64, labels ...string) {
		out <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, value, labels...)
	}
	queue, err := c.state.Waiting()
	if err != nil {
		gauge(databaseUp, 0) // and no queue, which is not known to be empty
	} else {
		gauge(databaseUp, 1)
		for name, w := range queue {
			gauge(waiting, float64(w.Count), name)
			gauge(oldest, w.Age.Seconds(), name)
		}
	}
	if n, bytes, ok := c.state.Repositories(); ok {
		gauge(repositories, float64(n))
		gauge(stored, float64(bytes))
	}
}
