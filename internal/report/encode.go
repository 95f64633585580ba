package report

import (
	"encoding/json"
	"fmt"
	"io"

	"sigs.k8s.io/yaml"
)

// Format is how a document is printed.
type Format string

// The formats.
const (
	FormatTable Format = "table" // for a person
	FormatJSON  Format = "json"
	FormatYAML  Format = "yaml"
)

// ParseFormat returns the format of that name.
func ParseFormat(name string) (Format, error) {
	switch f := Format(name); f {
	case FormatTable, FormatJSON, FormatYAML:
		return f, nil
	}
	return "", fmt.Errorf("output format %q must be table, json or yaml", name)
}

// Document is what this package can print.
type Document interface {
	// Text writes the document for a person.
	Text(w io.Writer, s Style) error
}

// Print writes a document in a format. The style counts for tables only.
func Print(w io.Writer, d Document, f Format, s Style) error {
	var text []byte
	var err error
	switch f {
	case FormatTable:
		return d.Text(w, s)
	case FormatYAML:
		text, err = yaml.Marshal(d)
	case FormatJSON:
		text, err = json.MarshalIndent(d, "", "  ")
		text = append(text, '\n')
	}
	if err != nil {
		return fmt.Errorf("encode the result as %s: %w", f, err)
	}
	if _, err = w.Write(text); err != nil {
		return fmt.Errorf("print the result: %w", err)
	}
	return nil
}
