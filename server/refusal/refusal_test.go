package refusal_test

import (
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/parley-im/parley/server/refusal"
)

func TestNew(t *testing.T) {
	e := refusal.New(refusal.InvalidField, "The title is too long.", "field", "title", "max", "200")
	require.Equal(t, map[string]string{"field": "title", "max": "200"}, e.Meta)
	require.Equal(t, "INVALID_FIELD: The title is too long.", e.Error())

	require.Nil(t, refusal.New(refusal.Muted, "x").Meta)
	require.Equal(t, "MUTED", refusal.New(refusal.Muted, "").Error())
	require.Equal(t, map[string]string{"a": ""}, refusal.New(refusal.Muted, "x", "a").Meta)
}

func TestOfAndIs(t *testing.T) {
	wrapped := fmt.Errorf("send: %w", refusal.New(refusal.Muted, "You are muted.", "until", "later"))

	r, ok := refusal.Of(wrapped)
	require.True(t, ok)
	require.Equal(t, refusal.Muted, r)
	require.ErrorIs(t, wrapped, refusal.New(refusal.Muted, ""))
	require.NotErrorIs(t, wrapped, refusal.New(refusal.GroupFull, ""))
	require.NotErrorIs(t, wrapped, (*refusal.Error)(nil))

	for _, err := range []error{nil, errors.New("fault"), (*refusal.Error)(nil)} {
		_, ok := refusal.Of(err)
		require.False(t, ok)
	}
}

// A constant that is missing from Reasons would never reach the wire under its own name.
func TestReasonsListsEveryConstant(t *testing.T) {
	file, err := parser.ParseFile(token.NewFileSet(), "reason.go", nil, 0)
	require.NoError(t, err)
	var declared []refusal.Reason
	ast.Inspect(file, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok || len(spec.Values) != 1 {
			return true
		}
		if lit, ok := spec.Values[0].(*ast.BasicLit); ok {
			s, err := strconv.Unquote(lit.Value)
			require.NoError(t, err)
			declared = append(declared, refusal.Reason(s))
		}
		return true
	})
	require.Equal(t, declared, refusal.Reasons())
}
