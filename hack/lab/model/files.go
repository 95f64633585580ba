package model

import (
	"errors"
	"os"
	"path/filepath"

	"github.com/endpointsync/endpoint-sync-operator/hack/lab/outdir"
)

// write writes result.json and the plot.
func (r Result) write(dir string) error {
	return errors.Join(
		outdir.WriteJSON(dir, "result.json", r),
		os.WriteFile(filepath.Join(dir, "prediction.svg"), r.plot(), 0o644),
	)
}
