package engine

import (
	"context"

	"abaca"
)

func (e *Engine) Maintain(ctx context.Context, project abaca.ProjectID) error { return nil }
