package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/endpointsync/endpoint-sync-operator/hack/lab/machine/boot"
)

// enter makes the namespaces that the process was started in the machine's own.
func enter(s boot.Spec) error {
	for _, dir := range s.Cgroups {
		if err := os.WriteFile(filepath.Join(dir, "cgroup.procs"), []byte("0"), 0); err != nil { // 0 is who writes.
			return fmt.Errorf("enter cgroup: %w", err)
		}
	}
	if s.Hostname == "" {
		return nil
	}
	if err := unix.Sethostname([]byte(s.Hostname)); err != nil {
		return fmt.Errorf("set host name: %w", err)
	}
	if err := mountAll(s); err != nil {
		return err
	}
	if err := writeAll(s); err != nil {
		return err
	}
	for name, value := range s.Sysctls {
		if err := os.WriteFile(filepath.Join("/proc/sys", strings.ReplaceAll(name, ".", "/")), []byte(value), 0); err != nil {
			return fmt.Errorf("set sysctl: %w", err)
		}
	}
	return nil
}

func mountAll(s boot.Spec) error {
	// Nothing from here on reaches the host, nor comes from it.
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	const plain = unix.MS_NOSUID | unix.MS_NODEV
	if err := unix.Mount("proc", "/proc", "proc", plain|unix.MS_NOEXEC, ""); err != nil {
		return fmt.Errorf("mount /proc: %w", err)
	}
	for _, o := range s.Overlays {
		options := fmt.Sprintf("lowerdir=%s,upperdir=%s,workdir=%s", o.Target, o.Upper, o.Work)
		if err := unix.Mount("overlay", o.Target, "overlay", 0, options); err != nil {
			return fmt.Errorf("mount overlay on %s: %w", o.Target, err)
		}
	}
	if err := unix.Mount("tmpfs", "/run", "tmpfs", plain, "mode=755"); err != nil {
		return fmt.Errorf("mount /run: %w", err)
	}
	for _, b := range s.Binds {
		if err := os.MkdirAll(b.Target, 0o755); err != nil {
			return fmt.Errorf("make mount point: %w", err)
		}
		if err := bind(b); err != nil {
			return err
		}
	}
	for _, m := range s.Masks {
		if _, err := os.Stat(m.Target); os.IsNotExist(err) {
			continue // This kernel has no such file to protect.
		}
		if err := bind(m); err != nil {
			return err
		}
	}
	// The kubelet and containerd pass mounts on to containers.
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_SHARED, ""); err != nil {
		return fmt.Errorf("make mounts shared: %w", err)
	}
	return nil
}

func bind(b boot.Bind) error {
	if err := unix.Mount(b.Source, b.Target, "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("bind %s to %s: %w", b.Source, b.Target, err)
	}
	return nil
}

// writeAll makes files and links, also in place of links to what does not exist here.
func writeAll(s boot.Spec) error {
	for path, content := range s.Files {
		if err := remove(path); err != nil {
			return err
		}
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			return fmt.Errorf("write file: %w", err)
		}
	}
	for path, to := range s.Links {
		if err := remove(path); err != nil {
			return err
		}
		if err := os.Symlink(to, path); err != nil {
			return fmt.Errorf("write link: %w", err)
		}
	}
	return nil
}

func remove(path string) error {
	if err := os.Remove(path); err != nil && !os.IsNotExist(err) {
		return fmt.Errorf("replace file: %w", err)
	}
	return nil
}
