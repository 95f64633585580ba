package watch

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"mime"
	"net/http"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/conversion/queryparams"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// The encodings that are asked for: protobuf, and of kinds whose names and labels suffice only those.
const (
	protobuf         = "application/vnd.kubernetes.protobuf"
	metadataOnly     = protobuf + ";as=PartialObjectMetadata;g=meta.k8s.io;v=v1"
	metadataOnlyList = protobuf + ";as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"
)

// errorBytes bounds what is read of an answer that is an error (client-go's maxUnstructuredResponseTextBytes is less).
const errorBytes = 64 << 10

// get begins a request for a kind. The answer is the caller's to close; errors are the API server's own as far as
// it sent one.
func (f *Feed) get(ctx context.Context, k *kind, options metav1.ListOptions) (io.ReadCloser, error) {
	options.LabelSelector, options.FieldSelector = k.labels, k.fields
	query, err := queryparams.Convert(&options)
	if err != nil {
		return nil, fmt.Errorf("encode the options for %s: %w", k.name, err)
	}
	address := f.server.JoinPath(k.path)
	address.RawQuery = query.Encode()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, address.String(), http.NoBody)
	if err != nil {
		return nil, fmt.Errorf("build a request for %s: %w", k.name, err)
	}
	switch {
	case !k.metadataOnly:
		request.Header.Set("Accept", protobuf)
	case options.Watch:
		request.Header.Set("Accept", metadataOnly)
	default:
		request.Header.Set("Accept", metadataOnlyList)
	}
	answer, err := f.client.Do(request)
	if err != nil {
		return nil, err
	}
	if answer.StatusCode != http.StatusOK {
		defer func() { _ = answer.Body.Close() }() // It was read, or not: the error is told either way.
		return nil, answerError(k, answer)
	}
	if encoding, _, err := mime.ParseMediaType(answer.Header.Get("Content-Type")); err != nil || encoding != protobuf {
		_ = answer.Body.Close() // Nothing of it is read.
		return nil, fmt.Errorf("the server sends %s as %q, not in protobuf", k.name, answer.Header.Get("Content-Type"))
	}
	return answer.Body, nil
}

// answerError is what the server says, as client-go tells it.
func answerError(k *kind, answer *http.Response) error {
	body, err := io.ReadAll(io.LimitReader(answer.Body, errorBytes))
	if err == nil {
		if status, ok := readStatus(body); ok {
			return apierrors.FromObject(status)
		}
	}
	text := string(bytes.TrimSpace(body))
	return apierrors.NewGenericServerResponse(answer.StatusCode, "get", schema.GroupResource{Resource: k.name}, "", text, 0, true)
}

// readStatus reads a metav1.Status in either encoding.
func readStatus(body []byte) (*metav1.Status, bool) {
	var status metav1.Status
	raw, err := unwrap(body)
	if err == nil {
		err = status.Unmarshal(raw)
	} else {
		err = json.Unmarshal(body, &status)
	}
	return &status, err == nil && status.Status == metav1.StatusFailure
}
