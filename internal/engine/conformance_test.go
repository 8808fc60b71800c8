package engine

import (
	"testing"

	"abaca/internal/test/enginetest"
)

func TestEngineConforms(t *testing.T) {
	t.Parallel()
	enginetest.Run(t, func(t *testing.T) enginetest.Engine { return newEngine(t, newRoot(t, enginetest.Project)) })
}
