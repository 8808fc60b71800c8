package abaca

// What workers do that no request asks for is watched under these names, as Operations are under theirs.
const (
	WorkVerify   = "verify"   // one slice of one project's rolling verification
	WorkMaintain = "maintain" // one round through all repositories; failed where one of them was
)

// How a piece of work can end for the worker that had it, beside OutcomeDone and, for good, OutcomeFailed.
const (
	OutcomeRetried     = "retried"     // failed, to be tried again
	OutcomeInterrupted = "interrupted" // by the stopping of the worker or of what the work needs, or its end could not be written: somebody will do it again
	OutcomeLeaseLost   = "lease_lost"  // it is another worker's meanwhile, or was stopped by an administrator
)

// WorkOutcomes lists them all.
var WorkOutcomes = []string{OutcomeDone, OutcomeFailed, OutcomeRetried, OutcomeInterrupted, OutcomeLeaseLost}

// WorkNames lists all that is watched: every operation, and what nobody asks for.
func WorkNames() []string {
	names := make([]string, 0, len(Operations)+2)
	for _, op := range Operations {
		names = append(names, op.Name)
	}
	return append(names, WorkVerify, WorkMaintain)
}
