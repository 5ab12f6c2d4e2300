package contract

import (
	"encoding/json"
	"maps"
	"os"
	"reflect"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"
)

// object is what of a JSON schema is held against the types.
type object struct {
	Properties map[string]object `json:"properties"`
	Defs       map[string]object `json:"$defs"`
}

// TestSchemaNamesWhatIsRead keeps schema.json as the code is: the same fields, no more and no fewer.
func TestSchemaNamesWhatIsRead(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("schema.json")
	require.NoError(t, err)
	var schema object
	require.NoError(t, json.Unmarshal(text, &schema))
	for _, of := range []struct {
		schema object
		value  any
	}{{schema, scenario{}}, {schema.Defs["step"], step{}}, {schema.Defs["step"].Properties["many"], numbered{}}} {
		var fields []string
		for field := range reflect.TypeOf(of.value).Fields() {
			if name := field.Tag.Get("yaml"); name != "" {
				fields = append(fields, name)
			}
		}
		slices.Sort(fields)
		require.Equal(t, fields, slices.Sorted(maps.Keys(of.schema.Properties)))
	}
}

// TestScenariosMakeSense reads all scenarios, and shows that those that make none are refused.
func TestScenariosMakeSense(t *testing.T) {
	t.Parallel()
	require.GreaterOrEqual(t, len(load(t)), 12)
	for text, why := range map[string]string{
		"{name: x, devices: {a: b}, steps: []}":                               "needs a name, devices and steps",
		"{name: x, devices: {a: b}, steps: [{on: c, do: open}]}":              "no such device",
		"{name: x, devices: {a: b}, steps: [{see: [c]}]}":                     "no such device",
		"{name: x, devices: {a: b}, steps: [{on: a, see: [a]}]}":              "must be one of",
		"{name: x, devices: {a: b}, steps: [{on: a, do: leave, session: s}]}": "no such session",
		"{name: x, devices: {a: b}, steps: [{server: kill}]}":                 "alone",
		"{name: x, devices: {a: b}, steps: [{together: [{link: {c: cut}}]}]}": "no such device",
		"{name: x, devices: {a: b, c: b, d: b, e: b}, steps: [{see: []}]}":    "more than 3",
	} {
		var s scenario
		require.NoError(t, yaml.Unmarshal([]byte(text), &s), text)
		require.ErrorContains(t, s.check(), why, text)
	}
}
