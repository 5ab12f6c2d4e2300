package rpc

import (
	"context"
	"errors"

	"connectrpc.com/connect"
	"connectrpc.com/grpchealth"
)

// serviceNames are the names of what this server offers.
func serviceNames() []string {
	names := []string{grpchealth.HealthV1ServiceName}
	for _, f := range serviceFiles {
		for i := range f.Services().Len() {
			names = append(names, string(f.Services().Get(i).FullName()))
		}
	}
	return names
}

// health answers for the whole server and for each of its services. Of others the protocol wants NOT_FOUND, where
// grpchealth asks the checker: a probe whose service is misspelt would find it healthy for ever.
type health struct {
	of    grpchealth.Checker
	known map[string]bool
}

func newHealth(of grpchealth.Checker) *health {
	h := &health{of: of, known: map[string]bool{"": true}}
	for _, name := range serviceNames() {
		h.known[name] = true
	}
	return h
}

// Check implements grpchealth.Checker.
func (h *health) Check(ctx context.Context, req *grpchealth.CheckRequest) (*grpchealth.CheckResponse, error) {
	if !h.known[req.Service] {
		return nil, connect.NewError(connect.CodeNotFound, errors.New("there is no such service"))
	}
	return h.of.Check(ctx, req)
}
