package rig

import (
	"io"
	"os"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestAScopeEndsAsATestDoes(t *testing.T) {
	s := NewScope(t.Context(), "trial", io.Discard)
	var order []string
	var dir string
	wentOn := false
	ok := s.Do(func() {
		dir = s.TempDir()
		s.Cleanup(func() { order = append(order, "first") })
		s.Cleanup(func() {
			order = append(order, "last")
			if s.Context().Err() == nil {
				s.Error("the context outlives the scope")
			}
			s.Cleanup(func() { order = append(order, "added meanwhile") })
		})
		s.Errorf("%d is odd", 3)
		s.Fatal("no", "way")
		wentOn = true
	})
	if ok || wentOn {
		t.Errorf("Do = %v and went on = %v, want neither after Fatal", ok, wentOn)
	}
	if diff := cmp.Diff([]string{"3 is odd", "no way"}, s.End()); diff != "" {
		t.Errorf("End() (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"last", "added meanwhile", "first"}, order); diff != "" {
		t.Errorf("cleanups (-want +got):\n%s", diff)
	}
	if _, err := os.Stat(dir); !os.IsNotExist(err) {
		t.Errorf("the temporary directory is still there: %v", err)
	}
}
