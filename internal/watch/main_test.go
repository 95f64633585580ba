package watch

import (
	"context"
	"testing"

	utilruntime "k8s.io/apimachinery/pkg/util/runtime"
)

// TestMain keeps apimachinery from slowing errors down, which its second handler does: it compares the real time with a
// bubble's.
func TestMain(m *testing.M) {
	utilruntime.ErrorHandlers[1] = func(context.Context, error, string, ...any) {}
	m.Run()
}
