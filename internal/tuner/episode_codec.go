package tuner

import (
	"bytes"
	"cmp"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/endpointsync/endpoint-sync-operator/api/v1alpha1"
	"github.com/endpointsync/endpoint-sync-operator/internal/lag"
)

const (
	// bookVersion is that of the form below. Another one is not read: a book is worth a week at most.
	bookVersion = 1

	// MaxBook is how many bytes a book takes at most: half of what a ConfigMap may hold.
	MaxBook = 512 << 10

	// maxUnpacked bounds what a damaged or malicious book may unpack to: eight times what eight full episodes take.
	maxUnpacked = 8 << 20
)

// bookForm is a book as it is stored.
type bookForm struct {
	Version  int           `json:"version"`
	Episodes []episodeForm `json:"episodes"`
}

// episodeForm is an episode as it is stored. Services are their arrival curves: for each change of a Service the
// milliseconds since its last one (or since Start), and its kind.
type episodeForm struct {
	StartMilliseconds int64          `json:"start"`
	Flags             v1alpha1.Flags `json:"flags"`
	Lag               time.Duration  `json:"lag"`
	Model             Parameters     `json:"model"`
	Services          [][]int64      `json:"services"`
}

// EncodeBook returns the book in at most MaxBook bytes; of more, the episodes with the fewest changes are left out.
func EncodeBook(book []Episode) ([]byte, error) {
	book = slices.Clone(book)
	for {
		form := bookForm{Version: bookVersion, Episodes: make([]episodeForm, 0, len(book))}
		for _, e := range book {
			form.Episodes = append(form.Episodes, formOf(e))
		}
		packed, err := pack(form)
		if err != nil {
			return nil, fmt.Errorf("encode the book of episodes: %w", err)
		}
		if len(packed) <= MaxBook || len(book) == 0 {
			return packed, nil
		}
		least := slices.MinFunc(book, func(a, b Episode) int { return cmp.Compare(len(a.Demand.Changes), len(b.Demand.Changes)) })
		book = slices.DeleteFunc(book, func(e Episode) bool { return e.Start.Equal(least.Start) })
	}
}

func pack(form bookForm) ([]byte, error) {
	var out bytes.Buffer
	zip := gzip.NewWriter(&out)
	if err := json.NewEncoder(zip).Encode(form); err != nil {
		return nil, err
	}
	if err := zip.Close(); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

// DecodeBook reads what EncodeBook returned. Another version, or anything that no book could hold, is an error.
func DecodeBook(packed []byte) ([]Episode, error) {
	zip, err := gzip.NewReader(bytes.NewReader(packed))
	if err != nil {
		return nil, fmt.Errorf("unpack the book of episodes: %w", err)
	}
	text, err := io.ReadAll(io.LimitReader(zip, maxUnpacked+1))
	if err != nil {
		return nil, fmt.Errorf("unpack the book of episodes: %w", err)
	}
	if len(text) > maxUnpacked {
		return nil, fmt.Errorf("unpack the book of episodes: more than %d bytes", maxUnpacked)
	}
	var form bookForm
	if err := json.Unmarshal(text, &form); err != nil {
		return nil, fmt.Errorf("decode the book of episodes: %w", err)
	}
	if form.Version != bookVersion {
		return nil, fmt.Errorf("decode the book of episodes: version %d, want %d", form.Version, bookVersion)
	}
	if len(form.Episodes) > maxEpisodes {
		return nil, fmt.Errorf("decode the book of episodes: %d episodes, want at most %d", len(form.Episodes), maxEpisodes)
	}
	book := make([]Episode, 0, len(form.Episodes))
	for i, f := range form.Episodes {
		e, err := f.episode()
		if err != nil {
			return nil, fmt.Errorf("decode episode %d of the book: %w", i, err)
		}
		book = append(book, e)
	}
	return book, nil
}

// The kinds of a change are its direction and its two classes in one number: kindClasses of each class, in that order.
const kindClasses = 4

// classOfKind are the classes that a book tells apart, see kept; directionOfKind the directions.
func classOfKind() [kindClasses]lag.Class {
	return [...]lag.Class{0, lag.Closed, lag.Superseded, lag.NotNeeded}
}

func directionOfKind() [2]lag.Direction {
	return [...]lag.Direction{lag.DirectionAddition, lag.DirectionRemoval}
}

func kindOf(c lag.Change) int64 {
	classes, directions := classOfKind(), directionOfKind()
	slice, endpoints := slices.Index(classes[:], c.SliceClass), slices.Index(classes[:], c.EndpointsClass)
	return int64((slices.Index(directions[:], c.Direction)*kindClasses+slice)*kindClasses + endpoints)
}

func formOf(e Episode) episodeForm {
	f := episodeForm{StartMilliseconds: e.Start.UnixMilli(), Flags: e.Flags, Lag: e.Lag, Model: e.Model}
	var last []time.Duration
	for _, c := range e.Demand.Changes {
		for int(c.Service) >= len(f.Services) {
			f.Services, last = append(f.Services, nil), append(last, 0)
		}
		n := c.Service
		f.Services[n] = append(f.Services[n], (c.At - last[n]).Milliseconds(), kindOf(c))
		last[n] = c.At
	}
	return f
}

var errForm = errors.New("it is not of the form of an episode")

func (f episodeForm) episode() (Episode, error) {
	e := Episode{Start: time.UnixMilli(f.StartMilliseconds), Flags: f.Flags, Lag: f.Lag, Model: f.Model}
	e.Demand.Start = e.Start
	if !complete(f.Flags) || f.Lag < 0 || f.StartMilliseconds < 0 {
		return Episode{}, errForm
	}
	for n, curve := range f.Services {
		at := int64(0)
		for i := 0; i+1 < len(curve); i += 2 {
			change, valid := changeOf(curve[i+1])
			if !valid || curve[i] < 0 || curve[i] > lookBack.Milliseconds() || len(e.Demand.Changes) == maxSearched {
				return Episode{}, errForm
			}
			if at += curve[i]; at > lookBack.Milliseconds() {
				return Episode{}, errForm
			}
			change.At, change.Service = time.Duration(at)*time.Millisecond, int32(n)
			e.Demand.Changes = append(e.Demand.Changes, change)
		}
		if len(curve)%2 != 0 || len(curve) == 0 {
			return Episode{}, errForm
		}
	}
	if len(e.Demand.Changes) == 0 {
		return Episode{}, errForm
	}
	sortChanges(e.Demand.Changes)
	return e, nil
}

func changeOf(kind int64) (c lag.Change, valid bool) {
	classes, directions := classOfKind(), directionOfKind()
	if kind < 0 || kind >= int64(len(directions))*kindClasses*kindClasses {
		return c, false
	}
	return lag.Change{
		Direction:  directions[kind/kindClasses/kindClasses],
		SliceClass: classes[kind/kindClasses%kindClasses], EndpointsClass: classes[kind%kindClasses],
	}, true
}
