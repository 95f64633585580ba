package cli

// Exit statuses of the program. Any error without a status of its own is statusError.
const (
	statusError           = 1 // something broke
	statusObjectiveMissed = 2 // measure: the lag is above the objective
	statusRefused         = 3 // the input was understood and refused, or could not be understood; nothing was done
)

// exitError gives an error an exit status.
type exitError struct {
	status int
	err    error
}

// Error returns the text of the error.
func (e *exitError) Error() string { return e.err.Error() }

// Unwrap returns the error.
func (e *exitError) Unwrap() error { return e.err }

// ExitStatus returns the status to exit with.
func (e *exitError) ExitStatus() int { return e.status }
