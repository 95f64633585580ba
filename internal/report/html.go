package report

import "io"

// HTML writes nothing yet.
func (d *Plan) HTML(io.Writer) error { return nil }
