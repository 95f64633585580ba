// Package outdir keeps what a run of the lab measured, in the directory that its command was given.
package outdir

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
)

// WriteJSON writes a value as indented JSON into a file of the directory, which it makes if need be. A file of that name is
// replaced.
func WriteJSON(dir, name string, value any) error {
	text, err := json.MarshalIndent(value, "", "  ")
	if err != nil {
		return fmt.Errorf("encode %s: %w", name, err)
	}
	if err = os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("make the directory of %s: %w", name, err)
	}
	if err = os.WriteFile(filepath.Join(dir, name), append(text, '\n'), 0o644); err != nil {
		return fmt.Errorf("write a result: %w", err)
	}
	return nil
}
