package controlplane

import "syscall"

// dieWithParent makes the kernel kill the child when the thread that starts it ends, even if the lab was killed.
func dieWithParent(attributes *syscall.SysProcAttr) { attributes.Pdeathsig = syscall.SIGKILL }
