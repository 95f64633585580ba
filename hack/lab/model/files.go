package model

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
)

// write writes result.json and the plot.
func (r Result) write(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	text, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	return errors.Join(
		os.WriteFile(filepath.Join(dir, "result.json"), append(text, '\n'), 0o644),
		os.WriteFile(filepath.Join(dir, "prediction.svg"), r.plot(), 0o644),
	)
}
