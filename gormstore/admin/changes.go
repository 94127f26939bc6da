package admin

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
)

// change is a value of a state that differs from that of the version before.
type change struct {
	Path   string `json:"path"`
	Before string `json:"before,omitempty"`
	After  string `json:"after,omitempty"`
}

// mostChanges is how many changes a page shows.
const mostChanges = 200

// changes returns what differs between two states, by path.
func changes(before, after json.RawMessage) []change {
	old, current := flattened(before), flattened(after)
	var all []change
	for path, value := range current {
		if old[path] != value {
			all = append(all, change{path, old[path], value})
		}
	}
	for path, value := range old {
		if _, kept := current[path]; !kept {
			all = append(all, change{path, value, ""})
		}
	}
	slices.SortFunc(all, func(a, b change) int { return strings.Compare(a.Path, b.Path) })
	return all[:min(len(all), mostChanges)]
}

// flattened returns the values of a JSON document by their paths.
func flattened(document json.RawMessage) map[string]string {
	values := map[string]string{}
	if len(document) == 0 {
		return values
	}
	decoder := json.NewDecoder(strings.NewReader(string(document)))
	decoder.UseNumber()
	var root any
	if decoder.Decode(&root) == nil {
		flatten(values, "", root)
	}
	return values
}

func flatten(values map[string]string, path string, node any) {
	switch node := node.(type) {
	case map[string]any:
		for key, value := range node {
			flatten(values, strings.TrimPrefix(path+"."+key, "."), value)
		}
	case []any:
		for i, value := range node {
			flatten(values, fmt.Sprintf("%s[%d]", path, i), value)
		}
	default:
		text, _ := json.Marshal(node) // it was decoded from JSON
		values[path] = valid(string(text))
	}
}
