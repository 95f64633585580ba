package platform

import (
	"fmt"
	"reflect"
	"regexp"
	"strings"

	"go.yaml.in/yaml/v4"

	"github.com/endpointsync/endpoint-sync-operator/internal/manifest"
	"github.com/endpointsync/endpoint-sync-operator/internal/yamltext"
)

// EditExtraArgs returns a ClusterConfiguration that gives kube-controller-manager the settings, in a slice of its own.
// What is given already keeps its place, and what is missing is inserted at the end in canonical order: kubeadm appends
// the arguments to the command in this order, which is where the agent inserts them. Every other byte is the same. A
// value that the operator could not write again is refused rather than replaced or removed.
//
// The result was parsed again: it differs in the given arguments only. Setting the original values back gives the
// original bytes where the arguments were inserted into what kubeadm itself wrote.
func EditExtraArgs(clusterConfiguration []byte, set []manifest.Setting) ([]byte, error) {
	wanted, err := manifest.Canonical(set)
	if err != nil {
		return nil, fmt.Errorf("edit the ClusterConfiguration: %w", err)
	}
	x, err := parseExtraArgs(clusterConfiguration)
	if err != nil {
		return nil, err
	}
	e := &argsEdit{extraArgs: x, changes: yamltext.NewEdit(x.Lines), newValues: map[int]string{}, dropped: map[int]bool{}}
	for _, s := range wanted {
		if err = e.plan(s); err != nil {
			return nil, err
		}
	}
	if err = e.settle(); err != nil {
		return nil, err
	}
	return e.proven()
}

// argsEdit is what is to happen to the text, and to the arguments.
type argsEdit struct {
	*extraArgs
	changes   *yamltext.Edit
	newValues map[int]string // index in args → the argument's new value
	dropped   map[int]bool   // index in args → the argument goes
	added     []extraArg     // new arguments at the end
}

// plan plans one setting, or refuses it.
func (e *argsEdit) plan(s manifest.Setting) error {
	now := e.setting(s.Name)
	if s == now {
		return nil
	}
	if err := s.Check(); err != nil {
		return fmt.Errorf("edit the ClusterConfiguration: %w", err)
	}
	if now.Absent {
		e.added = append(e.added, extraArg{name: s.Name, value: s.Value})
		return nil
	}
	if now.Check() != nil {
		return refuse("gives %s the value %q, which the operator could not put back later: change it by hand", s.Name, now.Value)
	}
	if s.Absent {
		return e.planRemove(e.flags[s.Name])
	}
	return e.planReplace(e.flags[s.Name], s.Value)
}

func (e *argsEdit) planReplace(index int, value string) error {
	node := yamltext.Lookup(e.args[index].item, "value").Value
	place, ok := e.Locate(node)
	if !ok {
		return refuse("has a value in line %d that is not written plainly, in quotes", node.Line)
	}
	e.changes.Replace(place.Line, place.Start, place.End, value)
	e.newValues[index] = value
	return nil
}

// planRemove takes the lines of an argument out, if nothing else stands on them.
func (e *argsEdit) planRemove(index int) error {
	end := map[int]yamltext.Place{} // line → the last scalar on it
	for _, entry := range yamltext.Entries(e.args[index].item) {
		place, ok := e.Locate(entry.Value)
		if !ok {
			return refuse("has an argument in line %d that is not written plainly", entry.Value.Line)
		}
		if place.Start >= end[place.Line].Start {
			end[place.Line] = place
		}
	}
	for at, last := range end {
		if strings.Trim(e.Behind(last), " \t}") != "" {
			return refuse("has more in line %d than the argument that is to be removed", at+1)
		}
		e.changes.Remove(at)
	}
	e.dropped[index] = true
	return nil
}

// settle writes what is added, and leaves an emptied list as kubeadm would.
func (e *argsEdit) settle() error {
	switch {
	case len(e.added) > 0:
		return e.insert()
	case len(e.dropped) > 0 && len(e.dropped) == len(e.args):
		return e.vacate()
	}
	return nil
}

// insert puts the new arguments behind the last, or makes the list that they need.
func (e *argsEdit) insert() error {
	if len(e.args) > 0 {
		return e.append()
	}
	switch {
	case e.list.Key != nil:
		return e.begin(e.list, 0)
	case e.component.Key == nil:
		kind, ok := e.Locate(yamltext.Lookup(e.Root, "kind").Value)
		if !ok || e.Root.Style&yaml.FlowStyle != 0 {
			return notBlock(e.Root)
		}
		e.changes.InsertAfter(kind.Line, componentKey+":")
		e.write(kind.Line, "  ")
		return nil
	case len(yamltext.Entries(e.component.Value)) == 0:
		return e.begin(e.component, 2)
	}
	key, ok := e.Locate(e.component.Key)
	sibling, alsoOK := e.Locate(yamltext.Entries(e.component.Value)[0].Key)
	if !ok || !alsoOK || strings.Trim(e.Before(sibling), " ") != "" {
		return notBlock(e.component.Value)
	}
	e.write(key.Line, e.Before(sibling))
	return nil
}

// write inserts the key extraArgs and the new arguments after a line.
func (e *argsEdit) write(line int, indent string) {
	e.changes.InsertAfter(line, indent+argsKey+":")
	e.items(line, indent+"- ")
}

// items inserts the new arguments as kubeadm writes them, behind a dash with its indentation.
func (e *argsEdit) items(line int, dash string) {
	for _, arg := range e.added {
		e.changes.InsertAfter(line, dash+"name: "+arg.name)
		e.changes.InsertAfter(line, strings.Repeat(" ", len(dash))+`value: "`+arg.value+`"`)
	}
}

// nothing is a key's value that stands for an empty one, and a comment.
var nothing = regexp.MustCompile(`^:(?:[ \t]+(\[[ \t]*\]|\{[ \t]*\}|null|~))?[ \t]*(?:[ \t]#.*)?$`)

// begin makes a block of an empty value: of extraArgs, or of controllerManager, whose fields are to be indented deeper.
func (e *argsEdit) begin(entry yamltext.Entry, deeper int) error {
	key, ok := e.Locate(entry.Key)
	if !ok || strings.Trim(e.Before(key), " ") != "" {
		return notBlock(entry.Key)
	}
	found := nothing.FindStringSubmatchIndex(e.Behind(key))
	if found == nil {
		return notBlock(entry.Key)
	}
	if from, to := found[2], found[3]; from >= 0 {
		at := len(e.Lines[key.Line].Text) - len(e.Behind(key))
		e.changes.Replace(key.Line, at+len(":"), at+to, "")
	}
	indent := e.Before(key) + strings.Repeat(" ", deeper)
	if deeper == 0 {
		e.items(key.Line, indent+"- ")
	} else {
		e.write(key.Line, indent)
	}
	return nil
}

// append puts the new arguments behind the last one and what is indented like it.
func (e *argsEdit) append() error {
	last := e.args[len(e.args)-1].item
	at := last.Line - 1
	dash := strings.Repeat(" ", last.Column-1)
	if e.list.Value.Style&yaml.FlowStyle != 0 || last.Column-1 > len(e.Lines[at].Text) {
		return notBlock(e.list.Value)
	}
	dash = e.Lines[at].Text[:len(dash)]
	indent, spaces, ok := strings.Cut(dash, "-")
	if !ok || strings.Trim(indent, " ") != "" || spaces == "" || strings.Trim(spaces, " ") != "" {
		return notBlock(last)
	}
	for i := at + 1; i < len(e.Lines); i++ {
		text := e.Lines[i].Text
		if strings.Trim(text, " \t") == "" {
			continue
		}
		if len(text)-len(strings.TrimLeft(text, " ")) <= len(indent) {
			break
		}
		at = i
	}
	e.items(at, dash)
	return nil
}

// vacate leaves an emptied list as it was before the first insertion, if kubeadm wrote that.
func (e *argsEdit) vacate() error {
	list, ok := e.Locate(e.list.Key)
	component, alsoOK := e.Locate(e.component.Key)
	if !ok || !alsoOK || nothing.FindString(e.Behind(list)) == "" {
		return notBlock(e.list.Key)
	}
	colon := func(p yamltext.Place) int { return len(e.Lines[p.Line].Text) - len(e.Behind(p)) + len(":") }
	if strings.TrimRight(e.Behind(list), " \t") != ":" {
		e.changes.Replace(list.Line, colon(list), colon(list), " []")
		return nil
	}
	e.changes.Remove(list.Line)
	if len(yamltext.Entries(e.component.Value)) == 1 {
		e.changes.Replace(component.Line, colon(component), colon(component), " {}")
	}
	return nil
}

// proven applies the plan and returns the text if it decodes to exactly what was planned.
func (e *argsEdit) proven() ([]byte, error) {
	text := e.changes.Bytes()
	after, err := parseExtraArgs(text)
	if err != nil {
		return nil, refuse("would not be understood after the edit: write extraArgs as kubeadm does, a line for each name and value (%v)", err)
	}
	if !reflect.DeepEqual(after.pairs(), e.planned()) || !reflect.DeepEqual(after.otherwise(), e.otherwise()) {
		return nil, refuse("cannot be edited with proof: write extraArgs as kubeadm does, a line for each name and value")
	}
	return text, nil
}

// planned returns the names and values that there are to be.
func (e *argsEdit) planned() [][2]string {
	var all [][2]string
	for i, pair := range e.pairs() {
		if value, replaced := e.newValues[i]; replaced {
			pair[1] = value
		}
		if !e.dropped[i] {
			all = append(all, pair)
		}
	}
	for _, arg := range e.added {
		all = append(all, [2]string{arg.name, arg.value})
	}
	return all
}

func notBlock(node *yaml.Node) error {
	return refuse("has no place in line %d to insert or remove an argument at: write controllerManager and extraArgs as kubeadm does, "+
		"a line for each name and value", node.Line)
}
