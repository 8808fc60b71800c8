package engine

import (
	"testing"

	"abaca"
	"abaca/internal/test/enginetest"
	"abaca/internal/test/s3"
)

func TestEngineConforms(t *testing.T) {
	t.Parallel()
	enginetest.Run(t, func(t *testing.T) enginetest.Engine { return newEngine(t, newRoot(t, enginetest.Project)) })
}

func TestEngineConformsInABucket(t *testing.T) {
	t.Parallel()
	server := s3.Start(t)
	enginetest.Run(t, func(t *testing.T) enginetest.Engine {
		return newEngine(t, t.TempDir(), inBucket(server), func(c *Config) { c.Bucket.Prefix = dirName(abaca.ProjectID(t.Name())) + "/" })
	})
}
