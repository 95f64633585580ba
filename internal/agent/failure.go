package agent

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/endpointsync/endpoint-sync-operator/api/v1alpha1"
)

// failure is why something was not done: a reason for machines and a message for people.
type failure struct {
	Reason  string
	Message string
	cause   error
}

// Error returns the message, with the cause where there is one.
func (f *failure) Error() string {
	if f.cause == nil {
		return f.Message
	}
	return f.Message + ": " + f.cause.Error()
}

// Unwrap returns the cause.
func (f *failure) Unwrap() error { return f.cause }

func failf(reason, format string, args ...any) *failure {
	return &failure{Reason: reason, Message: fmt.Sprintf(format, args...)}
}

// ioFailure says what failed on which file, with the reason that the errno gives.
func ioFailure(what string, err error) *failure {
	if f, ok := errors.AsType[*failure](err); ok {
		return f
	}
	return &failure{Reason: reasonOf(err), Message: what, cause: err}
}

// reasonOf turns an error of a system call into the reason that people see.
func reasonOf(err error) string {
	switch {
	case errors.Is(err, unix.ENOSPC), errors.Is(err, unix.EDQUOT), errors.Is(err, unix.EFBIG):
		return v1alpha1.ReasonNoSpace
	case errors.Is(err, unix.EROFS):
		return v1alpha1.ReasonReadOnly
	case errors.Is(err, unix.EPERM), errors.Is(err, unix.EBUSY):
		return v1alpha1.ReasonImmutable
	case errors.Is(err, unix.EACCES):
		return v1alpha1.ReasonPermissionDenied
	case errors.Is(err, unix.ELOOP), errors.Is(err, unix.EXDEV), errors.Is(err, unix.ENOTDIR), errors.Is(err, unix.ENXIO):
		return v1alpha1.ReasonUnsupportedLayout
	case errors.Is(err, unix.ENOENT):
		return v1alpha1.ReasonManifestAbsent
	default:
		return v1alpha1.ReasonIOError
	}
}

// asFailure makes any error a failure; one that has no reason of its own gets IOError.
func asFailure(err error) *failure {
	if f, ok := errors.AsType[*failure](err); ok {
		return f
	}
	return &failure{Reason: reasonOf(err), Message: err.Error()}
}

// passing reports whether what stands behind a reason may go away by itself, so that trying again makes sense.
func passing(reason string) bool {
	switch reason {
	case v1alpha1.ReasonNoSpace, v1alpha1.ReasonReadOnly, v1alpha1.ReasonPermissionDenied, v1alpha1.ReasonImmutable,
		v1alpha1.ReasonIOError, v1alpha1.ReasonConflictingEdit, v1alpha1.ReasonManifestAbsent:
		return true
	}
	return false
}
