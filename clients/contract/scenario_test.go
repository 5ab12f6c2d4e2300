package contract

import (
	"bytes"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"
)

// scenario is one file of scenarios/. schema.json says the same for editors, README.md for people.
type scenario struct {
	Name    string            `yaml:"name"`
	Alone   bool              `yaml:"alone"`   // it ends the server, which others would notice
	Devices map[string]string `yaml:"devices"` // device: its user
	Users   []string          `yaml:"users"`   // further users, without a device here
	Open    []string          `yaml:"open"`    // devices that are open at the start; all, if it is not there
	Steps   []step            `yaml:"steps"`
	file    string
}

// step is one of: a call (on), a change of links or of the server, an expectation (see, agree), or several at once.
type step struct {
	On      string         `yaml:"on"`
	Do      string         `yaml:"do"`
	With    map[string]any `yaml:"with"`
	Session string         `yaml:"session"`
	Bodies  []string       `yaml:"bodies"`
	Many    *numbered      `yaml:"many"`
	As      string         `yaml:"as"`
	Answer  any            `yaml:"answer"`
	Refused string         `yaml:"refused"`

	Link   map[string]string `yaml:"link"`
	Server string            `yaml:"server"`

	See    []string       `yaml:"see"`
	Expect map[string]any `yaml:"expect"`

	Agree []string       `yaml:"agree"`
	Head  int64          `yaml:"head"`
	Texts map[string]int `yaml:"texts"`

	Together []step `yaml:"together"`
}

// numbered stands for the texts NAME0, NAME1, ... NAME(count-1).
type numbered struct {
	Name  string `yaml:"name"`
	Count int    `yaml:"count"`
}

func (n numbered) texts() []string {
	out := make([]string, n.Count)
	for i := range out {
		out[i] = fmt.Sprintf("%s%d", n.Name, i)
	}
	return out
}

// load reads all scenarios, strictly.
func load(t testing.TB) []scenario {
	files, err := filepath.Glob("scenarios/*.yaml")
	require.NoError(t, err)
	var out []scenario
	for _, file := range files {
		text, err := os.ReadFile(file) //nolint:gosec // our own files
		require.NoError(t, err)
		s := scenario{file: strings.TrimSuffix(filepath.Base(file), ".yaml")}
		dec := yaml.NewDecoder(bytes.NewReader(text))
		dec.KnownFields(true)
		require.NoError(t, dec.Decode(&s), file)
		if s.Open == nil {
			s.Open = slices.Sorted(maps.Keys(s.Devices))
		}
		require.NoError(t, s.check(), file)
		out = append(out, s)
	}
	return out
}

// check says what makes no sense in a scenario before it is run.
func (s scenario) check() error {
	if s.Name == "" || len(s.Devices) == 0 || len(s.Steps) == 0 {
		return fmt.Errorf("it needs a name, devices and steps")
	}
	if len(s.Devices) > 3 {
		return fmt.Errorf("more than 3 devices, which the table of languages is made for")
	}
	return s.checkSteps(s.Steps, map[string]bool{})
}

func (s scenario) checkSteps(steps []step, sessions map[string]bool) error {
	for i, st := range steps {
		kinds := 0
		for _, is := range []bool{st.On != "", st.Link != nil, st.Server != "", st.See != nil, st.Agree != nil, st.Together != nil} {
			if is {
				kinds++
			}
		}
		if kinds != 1 {
			return fmt.Errorf("step %d must be one of on, link, server, see, agree, together", i+1)
		}
		for _, d := range slices.Concat(st.See, st.Agree, slices.Collect(maps.Keys(st.Link))) {
			if s.Devices[d] == "" {
				return fmt.Errorf("step %d: no such device: %s", i+1, d)
			}
		}
		if st.On != "" && s.Devices[st.On] == "" {
			return fmt.Errorf("step %d: no such device: %s", i+1, st.On)
		}
		if st.Server != "" && !s.Alone {
			return fmt.Errorf("step %d: only a scenario that is alone may end the server", i+1)
		}
		if st.Session != "" && !sessions[st.Session] {
			return fmt.Errorf("step %d: no such session so far: %s", i+1, st.Session)
		}
		if st.As != "" {
			sessions[st.As] = true
		}
		if err := s.checkSteps(st.Together, sessions); err != nil {
			return fmt.Errorf("step %d: %w", i+1, err)
		}
	}
	return nil
}
