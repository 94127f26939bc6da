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
	all = all[:min(len(all), mostChanges)]
	for i, c := range all {
		all[i] = change{cut(c.Path, longestValue), cut(c.Before, longestValue), cut(c.After, longestValue)}
	}
	return all
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
		flatten(values, "", root, 0)
	}
	return values
}

// flatten adds the values of a node. What is nested deeper than a page shows is
// one value.
func flatten(values map[string]string, path string, node any, level int) {
	object, isObject := node.(map[string]any)
	array, isArray := node.([]any)
	switch {
	case isObject && level < deepest:
		for key, value := range object {
			flatten(values, strings.TrimPrefix(path+"."+key, "."), value, level+1)
		}
	case isArray && level < deepest:
		for i, value := range array {
			flatten(values, fmt.Sprintf("%s[%d]", path, i), value, level+1)
		}
	default:
		text, _ := json.Marshal(node) // it was decoded from JSON
		values[path] = string(text)
	}
}
