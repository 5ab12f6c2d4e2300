package app

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/spf13/pflag"
	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"
)

// examples are the files that people start their deployments from.
func examples(t *testing.T) map[string]string {
	t.Helper()
	root := filepath.Join("..", "..")
	kubernetes, err := filepath.Glob(filepath.Join(root, "deploy", "kubernetes", "*.yaml"))
	require.NoError(t, err)
	require.NotEmpty(t, kubernetes)
	out := map[string]string{}
	for _, path := range append(kubernetes, filepath.Join(root, "compose.yaml"), filepath.Join(root, "Dockerfile")) {
		b, err := os.ReadFile(path)
		require.NoError(t, err)
		out[filepath.Base(path)] = string(b)
	}
	return out
}

// What the examples set exists, and what is secret is referred to and never written down.
func TestExamplesSetWhatThereIs(t *testing.T) {
	c := Default()
	f := pflag.NewFlagSet("test", pflag.ContinueOnError)
	c.Flags(f)
	for file, text := range examples(t) {
		for _, name := range regexp.MustCompile(`PARLEY_[A-Z_]+`).FindAllString(text, -1) {
			flag := strings.ToLower(strings.ReplaceAll(strings.TrimPrefix(name, "PARLEY_"), "_", "-"))
			require.NotNil(t, f.Lookup(flag), "%s: there is no %s", file, name)
		}
		require.NotRegexp(t, `(?m)^\s+(PARLEY_ADMIN_KEY|POSTGRES_PASSWORD): [^$]`, text, file)
		require.NotRegexp(t, `postgres://[^:.$]+:[^$.]`, text, file)
	}
}

// The time that a node is given to end is longer than it takes: the wait before, and the drain.
func TestExamplesLetNodesDrain(t *testing.T) {
	texts := examples(t)
	var compose struct {
		Services map[string]struct {
			Stop        string            `yaml:"stop_grace_period"`
			Environment map[string]string `yaml:"environment"`
		} `yaml:"services"`
	}
	require.NoError(t, yaml.Unmarshal([]byte(texts["compose.yaml"]), &compose))
	for _, name := range []string{"parley1", "parley2", "parley3"} {
		s := compose.Services[name]
		require.Greater(t, duration(t, s.Stop), duration(t, s.Environment["PARLEY_DRAIN_TIMEOUT"]), name)
	}

	type container struct {
		Env []struct {
			Name, Value string
		} `yaml:"env"`
		Lifecycle struct {
			PreStop struct{ Sleep struct{ Seconds int } } `yaml:"preStop"`
		} `yaml:"lifecycle"`
		Ready struct {
			HTTPGet struct{ Path string } `yaml:"httpGet"`
		} `yaml:"readinessProbe"`
		Live struct {
			HTTPGet struct{ Path string } `yaml:"httpGet"`
		} `yaml:"livenessProbe"`
	}
	kinds := map[string]int{}
	docs := yaml.NewDecoder(bytes.NewReader([]byte(texts["parley.yaml"])))
	for {
		var d struct {
			Kind string
			Spec struct {
				Template struct {
					Spec struct {
						Grace      int         `yaml:"terminationGracePeriodSeconds"`
						Containers []container `yaml:"containers"`
					}
				}
			}
		}
		err := docs.Decode(&d)
		if errors.Is(err, io.EOF) {
			break
		}
		require.NoError(t, err)
		kinds[d.Kind]++
		if d.Kind != "Deployment" {
			continue
		}
		pod := d.Spec.Template.Spec
		c := pod.Containers[0]
		require.Equal(t, "/readyz", c.Ready.HTTPGet.Path)
		require.Equal(t, "/healthz", c.Live.HTTPGet.Path)
		drain := Default().DrainTimeout
		for _, e := range c.Env {
			if e.Name == "PARLEY_DRAIN_TIMEOUT" {
				drain = duration(t, e.Value)
			}
		}
		require.Positive(t, c.Lifecycle.PreStop.Sleep.Seconds)
		require.Greater(t, time.Duration(pod.Grace)*time.Second, time.Duration(c.Lifecycle.PreStop.Sleep.Seconds)*time.Second+drain)
	}
	require.Equal(t, map[string]int{"Deployment": 1, "Service": 1, "PodDisruptionBudget": 1, "NetworkPolicy": 1}, kinds)
}

func duration(t *testing.T, s string) time.Duration {
	t.Helper()
	d, err := time.ParseDuration(s)
	require.NoError(t, err)
	return d
}
