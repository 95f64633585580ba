// Package image makes container images from static binaries, without a daemon, a registry or root. The same files and
// the same description make the same image, byte for byte, wherever and whenever it is made.
//
// It neither pulls nor pushes: an image is a tarball that "ctr images import" and "docker load" take.
package image

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/compression"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// File is one file of an image.
type File struct {
	// Path is where it lies in the image, absolute.
	Path string
	// Source is the file on this machine that it is a copy of.
	Source string
	// Mode are its permissions.
	Mode fs.FileMode
	// UID and GID own it.
	UID, GID int
}

// Spec describes an image with one layer. Everything that is not in it has a fixed value.
type Spec struct {
	// Reference is the name that the image is imported under, with its tag.
	Reference string
	// Architecture is Go's name of it, for example amd64. The operating system is always Linux.
	Architecture string
	// Files are all that the image holds, besides the directories they need (root's, mode 0755).
	Files []File
	// Entrypoint is the command that a container runs.
	Entrypoint []string
	// User is UID or UID:GID that it runs as; "" is root.
	User string
	// Env are variables of its environment, NAME=VALUE.
	Env []string
	// Labels are shown by whoever inspects the image.
	Labels map[string]string
	// Uncompressed leaves the layer as it is: quick to make and to import, large to store.
	Uncompressed bool
}

// epoch stands for every time in an image, so that no image depends on when it was made.
var epoch = time.Unix(0, 0).UTC()

// Write makes the image and writes it to a file, as docker save would, under a temporary name until it is complete. It
// returns the digest of the image's manifest.
func Write(file string, s Spec) (digest string, err error) {
	tag, err := name.NewTag(s.Reference, name.StrictValidation)
	if err != nil {
		return "", fmt.Errorf("read image reference: %w", err)
	}
	img, err := s.build()
	if err != nil {
		return "", fmt.Errorf("make image %s: %w", s.Reference, err)
	}
	hash, err := img.Digest()
	if err != nil {
		return "", fmt.Errorf("make image %s: %w", s.Reference, err)
	}
	temp, err := os.CreateTemp(filepath.Dir(file), "."+filepath.Base(file)+"-")
	if err != nil {
		return "", fmt.Errorf("write image: %w", err)
	}
	err = errors.Join(tarball.Write(tag, img, temp), temp.Chmod(0o644), temp.Close())
	if err == nil {
		err = os.Rename(temp.Name(), file)
	}
	if err != nil {
		return "", fmt.Errorf("write image: %w", errors.Join(err, os.Remove(temp.Name())))
	}
	return hash.String(), nil
}

func (s Spec) build() (v1.Image, error) {
	compress := compression.GZip
	if s.Uncompressed {
		compress = compression.None
	}
	media := types.OCILayer
	if s.Uncompressed {
		media = types.OCIUncompressedLayer
	}
	layer, err := tarball.LayerFromOpener(s.open, tarball.WithCompression(compress), tarball.WithMediaType(media))
	if err != nil {
		return nil, err
	}
	img := mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON)
	img, err = mutate.Append(img, mutate.Addendum{
		Layer: layer, MediaType: media, History: v1.History{Created: v1.Time{Time: epoch}, CreatedBy: "lab image"},
	})
	if err != nil {
		return nil, err
	}
	config, err := img.ConfigFile()
	if err != nil {
		return nil, err
	}
	config = config.DeepCopy()
	config.OS, config.Architecture, config.Created = "linux", s.Architecture, v1.Time{Time: epoch}
	config.Config = v1.Config{Entrypoint: s.Entrypoint, User: s.User, Env: s.Env, Labels: s.Labels}
	return mutate.ConfigFile(img, config)
}

// open returns the layer as a tar stream, made while it is read.
func (s Spec) open() (io.ReadCloser, error) {
	r, w := io.Pipe()
	go func() { _ = w.CloseWithError(s.writeLayer(w)) }() // Ends when all is read or the reader closes.
	return r, nil
}

func (s Spec) writeLayer(w io.Writer) error {
	archive := tar.NewWriter(w)
	made := map[string]bool{"/": true}
	files := slices.SortedFunc(slices.Values(s.Files), func(a, b File) int { return strings.Compare(a.Path, b.Path) })
	for _, f := range files {
		if err := writeParents(archive, made, path.Dir(f.Path)); err != nil {
			return err
		}
		if err := writeFile(archive, f); err != nil {
			return fmt.Errorf("add %s: %w", f.Path, err)
		}
	}
	return archive.Close()
}

func writeParents(archive *tar.Writer, made map[string]bool, dir string) error {
	if made[dir] {
		return nil
	}
	if err := writeParents(archive, made, path.Dir(dir)); err != nil {
		return err
	}
	made[dir] = true
	return archive.WriteHeader(&tar.Header{
		Typeflag: tar.TypeDir, Name: strings.TrimPrefix(dir, "/") + "/", Mode: 0o755, ModTime: epoch, Format: tar.FormatPAX,
	})
}

func writeFile(archive *tar.Writer, f File) (err error) {
	source, err := os.Open(filepath.Clean(f.Source))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, source.Close()) }()
	info, err := source.Stat()
	if err != nil {
		return err
	}
	err = archive.WriteHeader(&tar.Header{
		Typeflag: tar.TypeReg, Name: strings.TrimPrefix(f.Path, "/"), Size: info.Size(), Mode: int64(f.Mode.Perm()),
		Uid: f.UID, Gid: f.GID, ModTime: epoch, Format: tar.FormatPAX,
	})
	if err != nil {
		return err
	}
	_, err = io.Copy(archive, source)
	return err
}
