package controlplane

import (
	"fmt"
	"os"
	"path/filepath"
)

// auditRotation is the size in MiB at which kube-apiserver would begin another audit log: more than any run of the lab
// writes, so that one file holds all of it.
const auditRotation = "100000"

// AuditLog is the path of kube-apiserver's audit log, JSON lines, if Options.AuditPolicy is given.
func (cp *ControlPlane) AuditLog() string { return filepath.Join(cp.Logs, "audit.log") }

func (cp *ControlPlane) auditPolicy() string { return filepath.Join(cp.Dir, "audit-policy.yaml") }

// writeAuditPolicy puts the policy where kube-apiserver reads it.
func (cp *ControlPlane) writeAuditPolicy() error {
	if cp.options.AuditPolicy == nil {
		return nil
	}
	if err := os.WriteFile(cp.auditPolicy(), cp.options.AuditPolicy, 0o600); err != nil {
		return fmt.Errorf("write audit policy: %w", err)
	}
	return nil
}

// auditArgs make kube-apiserver write each event before the request ends, so that none is lost.
func (cp *ControlPlane) auditArgs() []string {
	if cp.options.AuditPolicy == nil {
		return nil
	}
	return []string{
		"--audit-log-maxsize=" + auditRotation,
		"--audit-log-mode=blocking",
		"--audit-log-path=" + cp.AuditLog(),
		"--audit-policy-file=" + cp.auditPolicy(),
	}
}
