package rpc

import (
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"reflect"
	"time"

	"connectrpc.com/connect"
	"connectrpc.com/grpchealth"
	"connectrpc.com/grpcreflect"
	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/parley-im/parley/gen/parley/v1/parleyv1connect"
	"github.com/parley-im/parley/server/wire"
)

// DefaultUnaryTimeout bounds the longest unary calls (deadline.go), and how long a request may take to arrive.
const DefaultUnaryTimeout = 10 * time.Second

// Services are the handlers of all services. None may be nil.
type Services struct {
	Relation parleyv1connect.RelationServiceHandler
	Device   parleyv1connect.DeviceServiceHandler
	Session  parleyv1connect.SessionServiceHandler
	Message  parleyv1connect.MessageServiceHandler
	State    parleyv1connect.StateServiceHandler
	Sync     parleyv1connect.SyncServiceHandler
	Presence parleyv1connect.PresenceServiceHandler
	Admin    parleyv1connect.AdminServiceHandler
}

// Config is what New needs. Fields are required unless said otherwise.
type Config struct {
	Services   Services
	Subscriber Subscriber
	Verifier   Verifier
	APIKey     APIKey
	Gate       Gate
	// PublicKeys has the keys that verify Parley's own tokens; nil where it makes none.
	PublicKeys KeyPublisher
	// Health answers the gRPC health protocol.
	Health grpchealth.Checker
	Log    *slog.Logger
	// Metrics registers the metrics of calls; nil registers none.
	Metrics prometheus.Registerer
	// Tracing is the outermost interceptor; nil traces nothing.
	Tracing connect.Interceptor
	// UnaryTimeout is DefaultUnaryTimeout when 0.
	UnaryTimeout time.Duration
	// CORSOrigins are the origins whose pages may call, such as "https://chat.example", without wildcards; empty means none
	// but the server's own.
	CORSOrigins []string
	// Reflection offers the gRPC reflection protocol.
	Reflection bool
	// Addresses bounds the requests of an address; nil: nothing does.
	Addresses Addresses
	// Proxies speak for others; see Proxies.
	Proxies Proxies
	// Pages serves what is no call, such as the chat page; nil serves nothing.
	Pages http.Handler
}

// New returns the whole public API as one handler. It fails when a procedure has no declared access or
// right, when a rule of a
// request does not compile, when an origin is none, and when a required field is missing.
func New(cfg Config) (http.Handler, error) {
	if cfg.UnaryTimeout <= 0 {
		cfg.UnaryTimeout = DefaultUnaryTimeout
	}
	if err := cfg.check(); err != nil {
		return nil, err
	}
	g := &gate{table: declared, verifier: cfg.Verifier, key: cfg.APIKey, devices: cfg.Gate, timeout: cfg.UnaryTimeout}
	rules, err := newValidation()
	if err != nil {
		return nil, err
	}
	services := cfg.Services.mount(
		connect.WithRequestGate(g.admit),
		marking(wire.Codecs()),
		transportOptions(),
		connect.WithInterceptors(cfg.interceptors(rules)...),
	)
	mux := http.NewServeMux()
	methods(func(procedure string, m protoreflect.MethodDescriptor) {
		mux.Handle(procedure, services["/"+string(m.Parent().FullName())+"/"])
	})
	rest, err := newREST(services)
	if err != nil {
		return nil, err
	}
	mux.Handle("/v1/", rest)
	mux.Handle("GET /v1/subscribe", &sse{gate: g, rules: rules, subscriber: cfg.Subscriber})
	mux.Handle(grpchealth.NewHandler(newHealth(cfg.Health), transportOptions()))
	if cfg.Reflection {
		mux.Handle(grpcreflect.NewHandlerV1(reflector(), transportOptions()))
		mux.Handle(grpcreflect.NewHandlerV1Alpha(reflector(), transportOptions()))
	}
	mux.Handle(jwksPattern, publicKeys(cfg.PublicKeys))
	mux.Handle("/", fallback(cfg.Pages))
	var next http.Handler = mux
	if cfg.Tracing == nil { // what is traced goes the long way
		next = newExpress(mux, g, cfg.Services.Message, &answer{deadlines: Deadlines(cfg.UnaryTimeout)})
	}
	if cfg.Addresses != nil {
		next = &addressed{next: next, admit: cfg.Addresses, proxies: cfg.Proxies}
	}
	return &front{next: withCORS(next, cfg.CORSOrigins), obs: newObserver(cfg.Log, cfg.Metrics),
		timeout: cfg.UnaryTimeout}, nil
}

func (cfg Config) check() error {
	if cfg.Subscriber == nil || cfg.Verifier == nil || cfg.APIKey == nil || cfg.Gate == nil || cfg.Health == nil || cfg.Log == nil {
		return errors.New("rpc: Config lacks a required field")
	}
	v := reflect.ValueOf(cfg.Services)
	for i := range v.NumField() {
		if v.Field(i).IsNil() {
			return fmt.Errorf("rpc: no handler for the service %s", v.Type().Field(i).Name)
		}
	}
	return errors.Join(checkOrigins(cfg.CORSOrigins), checkAccess(declared), checkRights(rights), checkDeadlines())
}

func (cfg Config) interceptors(rules *validation) []connect.Interceptor {
	inner := []connect.Interceptor{&answer{deadlines: Deadlines(cfg.UnaryTimeout)}, rules}
	if cfg.Tracing == nil {
		return inner
	}
	return append([]connect.Interceptor{cfg.Tracing}, inner...)
}

// mount returns the services' handlers by their paths.
func (s Services) mount(opts ...connect.HandlerOption) map[string]http.Handler {
	out := make(map[string]http.Handler)
	add := func(path string, h http.Handler) { out[path] = h }
	add(parleyv1connect.NewRelationServiceHandler(s.Relation, opts...))
	add(parleyv1connect.NewDeviceServiceHandler(s.Device, opts...))
	add(parleyv1connect.NewSessionServiceHandler(s.Session, opts...))
	add(parleyv1connect.NewMessageServiceHandler(s.Message, opts...))
	add(parleyv1connect.NewStateServiceHandler(s.State, opts...))
	add(parleyv1connect.NewSyncServiceHandler(s.Sync, opts...))
	add(parleyv1connect.NewPresenceServiceHandler(s.Presence, opts...))
	add(parleyv1connect.NewAdminServiceHandler(s.Admin, opts...))
	return out
}

// transportOptions are the bounds that hold for every procedure.
func transportOptions() connect.HandlerOption {
	return connect.WithHandlerOptions(connect.WithReadMaxBytes(MaxRequestBytes), compression())
}

func reflector() *grpcreflect.Reflector {
	return grpcreflect.NewStaticReflector(serviceNames()...)
}
