package rpc

import (
	"encoding/json"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/genproto/googleapis/api/annotations"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	"github.com/parley-im/parley/gen/openapi"
	_ "github.com/parley-im/parley/gen/parley/v1"
)

// apiDocument is what the test reads of an OpenAPI document: path, then verb in lower case.
type apiDocument struct {
	Paths map[string]map[string]struct {
		OperationID string `json:"operationId"`
		Parameters  []struct {
			Name, In string
		}
		RequestBody *json.RawMessage
		Security    []map[string]any
	}
	Components struct{ Schemas map[string]any }
}

var (
	inBraces  = regexp.MustCompile(`\{(\w+)\}`)
	reference = regexp.MustCompile(`"\$ref": "#/components/schemas/([^"]+)"`)
)

// TestTheDocumentHasEveryCall holds /openapi.json against the protos: each path of each call once, with the parameters that
// its path and its request have, the stream, and nothing else.
func TestTheDocumentHasEveryCall(t *testing.T) {
	t.Parallel()
	var doc apiDocument
	require.NoError(t, json.Unmarshal(openapi.JSON, &doc))
	ids := map[string]bool{}
	left := map[string]bool{}
	for path, verbs := range doc.Paths {
		for verb, op := range verbs {
			require.False(t, ids[op.OperationID], "%s is there twice", op.OperationID)
			ids[op.OperationID] = true
			left[verb+" "+path] = true
		}
	}
	check := func(m protoreflect.MethodDescriptor, rule *annotations.HttpRule) {
		verb, path := verbAndPath(rule)
		op, ok := doc.Paths[path][verb]
		require.True(t, ok, "%s %s of %s is missing", verb, path, m.FullName())
		delete(left, verb+" "+path)
		require.True(t, strings.HasPrefix(op.OperationID, string(m.Parent().Name())+"_"+string(m.Name())), op.OperationID)
		var want, have []string
		inPath := map[string]bool{}
		for _, name := range inBraces.FindAllStringSubmatch(path, -1) {
			want, inPath[name[1]] = append(want, "path "+name[1]), true
		}
		for i := range m.Input().Fields().Len() {
			if f := m.Input().Fields().Get(i); rule.GetBody() == "" && !inPath[string(f.Name())] {
				want = append(want, "query "+f.JSONName())
			}
		}
		for _, p := range op.Parameters {
			have = append(have, p.In+" "+p.Name)
		}
		require.ElementsMatch(t, want, have, "%s %s", verb, path)
		require.Equal(t, rule.GetBody() != "", op.RequestBody != nil, "%s %s", verb, path)
		if m.Parent().Name() == "AdminService" {
			require.Contains(t, op.Security[0], "adminKey", "%s %s", verb, path)
		}
	}
	calls := 0
	protoregistry.GlobalFiles.RangeFilesByPackage("parley.v1", func(file protoreflect.FileDescriptor) bool {
		for i := range file.Services().Len() {
			methods := file.Services().Get(i).Methods()
			for j := range methods.Len() {
				m := methods.Get(j)
				if m.IsStreamingServer() {
					continue
				}
				calls++
				rule, _ := proto.GetExtension(m.Options(), annotations.E_Http).(*annotations.HttpRule)
				require.NotNil(t, rule.GetPattern(), "%s has no path", m.FullName())
				for _, r := range append(rule.GetAdditionalBindings(), rule) {
					check(m, r)
				}
			}
		}
		return true
	})
	require.Greater(t, calls, 40)
	require.Equal(t, map[string]bool{"get /v1/subscribe": true}, left)
	for _, ref := range reference.FindAllStringSubmatch(string(openapi.JSON), -1) {
		require.Contains(t, doc.Components.Schemas, ref[1])
	}
}

// TestTheDocumentOfTheStream holds what /openapi.json says of the stream against what the server reads.
func TestTheDocumentOfTheStream(t *testing.T) {
	t.Parallel()
	var doc apiDocument
	require.NoError(t, json.Unmarshal(openapi.JSON, &doc))
	var have []string
	for _, p := range doc.Paths["/v1/subscribe"]["get"].Parameters {
		have = append(have, p.In+" "+p.Name)
	}
	require.ElementsMatch(t, []string{"query maxBacklog", "query fresh", "header " + lastEventID}, have)
}

func verbAndPath(rule *annotations.HttpRule) (verb, path string) {
	switch p := rule.GetPattern().(type) {
	case *annotations.HttpRule_Get:
		return "get", p.Get
	case *annotations.HttpRule_Put:
		return "put", p.Put
	case *annotations.HttpRule_Post:
		return "post", p.Post
	case *annotations.HttpRule_Delete:
		return "delete", p.Delete
	case *annotations.HttpRule_Patch:
		return "patch", p.Patch
	}
	return "", ""
}
