package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const base = `{"openapi":"3.1.0","info":{"title":"T","version":"v1"},"security":[{"user":[]}],
	"tagSecurity":{"Admin":[{"key":[]}]},"paths":{},"components":{},"tags":[]}`

func write(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestMergeJoinsPathsAndSharedSchemas(t *testing.T) {
	dir := write(t, map[string]string{
		"base.json": base,
		"a.openapi.json": `{"openapi":"3.1.0","paths":{"/x":{"get":{"tags":["Admin"]}}},
			"components":{"schemas":{"S":{"type":"object"}}},"tags":[{"name":"Admin"}]}`,
		"b.openapi.json": `{"openapi":"3.1.0","paths":{"/x":{"post":{"tags":["User"]}}},
			"components":{"schemas":{"S":{"type":"object"},"T":{"type":"string"}}},"tags":[{"name":"User"}]}`,
	})
	out := t.TempDir()
	if err := run(filepath.Join(dir, "base.json"), dir, out); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(out, "parley.v1.json"))
	if err != nil {
		t.Fatal(err)
	}
	var d document
	if err := json.Unmarshal(text, &d); err != nil {
		t.Fatal(err)
	}
	if len(d.Paths["/x"]) != 2 || len(d.Components["schemas"]) != 2 || len(d.Tags) != 2 {
		t.Fatalf("incomplete: %s", text)
	}
	get, _ := d.Paths["/x"]["get"].(map[string]any)
	post, _ := d.Paths["/x"]["post"].(map[string]any)
	if get["security"] == nil || post["security"] != nil || strings.Contains(string(text), "tagSecurity") {
		t.Fatalf("security of tags not applied: %s", text)
	}
}

func TestMergeRefusesContradictions(t *testing.T) {
	const schema = `{"openapi":"3.1.0","paths":{},"components":{"schemas":{"S":{"type":"object"}}}}`
	const path = `{"openapi":"3.1.0","paths":{"/x":{"get":{}}}}`
	for name, second := range map[string]string{
		"schema":  strings.Replace(schema, "object", "string", 1),
		"path":    path,
		"version": strings.Replace(schema, "3.1.0", "3.0.0", 1),
	} {
		t.Run(name, func(t *testing.T) {
			first := schema
			if name == "path" {
				first = path
			}
			dir := write(t, map[string]string{"base.json": base, "a.openapi.json": first, "b.openapi.json": second})
			if err := run(filepath.Join(dir, "base.json"), dir, t.TempDir()); err == nil {
				t.Fatal("merged without an error")
			}
		})
	}
}
