package presence

import (
	"context"
	"slices"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	parleyv1 "github.com/parley-im/parley/gen/parley/v1"
)

// MaxWatched is how many users a device may watch.
const MaxWatched = 200

// Presence is what a user is now.
type Presence struct {
	UserID   string
	Devices  []string  // online, ascending
	LastSeen time.Time // zero while online, and where it is not known
}

// Proto returns the presence as the API shows it to a viewer.
func (p Presence) Proto(viewer string) *parleyv1.Presence {
	out := &parleyv1.Presence{UserId: p.UserID, IsOnline: len(p.Devices) > 0}
	if viewer == p.UserID {
		out.DeviceIds = p.Devices
	}
	if !out.IsOnline && !p.LastSeen.IsZero() {
		out.LastSeenAt = timestamppb.New(p.LastSeen)
	}
	return out
}

// same reports whether a viewer who was told one needs not be told the other.
func (p Presence) same(o Presence) bool { return slices.Equal(p.Devices, o.Devices) }

// Place is a device with the node that has its stream.
type Place struct{ Device, Node string }

// Change is a device that came online or went, on this node.
type Change struct {
	UserID, DeviceID string
	Online           bool
}

// Seen is a user whose presence may be seen, with when they were last there.
type Seen struct {
	UserID   string
	LastSeen time.Time
}

// Board is what nodes tell each other. Implemented by storage over Redis; nothing of it has to be true.
type Board interface {
	// Put writes changes of a node.
	Put(ctx context.Context, node string, changes []Change) error
	// Get returns where each user's devices are, as written.
	Get(ctx context.Context, userIDs []string) ([][]Place, error)
}

// Audience tells whose presence may be seen. Implemented by storage.
type Audience interface {
	// Visible returns those of the users whose presence the viewer may see, ascending by id.
	Visible(ctx context.Context, viewer string, userIDs []string) ([]Seen, error)
}

// Nodes are the other nodes.
type Nodes interface {
	// Node is this node's id.
	Node() string
	// Alive reports whether a node was heard lately; this node is alive.
	Alive(node string) bool
	// Alone reports whether no other node was heard lately.
	Alone() bool
	// PresenceChanged tells those who watch a user to look again. It never blocks.
	PresenceChanged(userID string)
	// WantPresence says whether somebody here watches a user. It never blocks.
	WantPresence(userID string, here bool)
	// Watch tells the node that has a device's stream whom the device watches. It never blocks.
	Watch(userID, deviceID string, presences []*parleyv1.Presence)
}

// Streams are this node's streams.
type Streams interface {
	// Has reports whether the device has a stream here.
	Has(userID, deviceID string) bool
	// NotifyDevice gives an event to the streams of one device here. It never blocks.
	NotifyDevice(userID, deviceID string, ev *parleyv1.Event)
}

// Service answers devices. Safe for concurrent use.
type Service struct {
	tracker  *Tracker
	audience Audience
}

// NewService returns the service.
func NewService(t *Tracker, a Audience) *Service { return &Service{t, a} }

// Get returns the presence of those users whose presence the viewer may see, ascending by id.
func (s *Service) Get(ctx context.Context, viewer string, userIDs []string) ([]Presence, error) {
	seen, err := s.audience.Visible(ctx, viewer, userIDs)
	if err != nil || len(seen) == 0 {
		return nil, err
	}
	return s.tracker.presences(ctx, seen), nil
}

// Watch makes a device's stream tell the presence of users from now on, in place of whom it told before, and returns what
// they are now. Users whose presence the viewer may not see are left out.
func (s *Service) Watch(ctx context.Context, viewer, deviceID string, userIDs []string) (out []Presence, err error) {
	if len(userIDs) > 0 {
		if out, err = s.Get(ctx, viewer, userIDs); err != nil {
			return nil, err
		}
	}
	told := make([]*parleyv1.Presence, len(out))
	for i, p := range out {
		told[i] = p.Proto(viewer)
	}
	if s.tracker.streams.Has(viewer, deviceID) {
		s.tracker.Watch(viewer, deviceID, told)
	} else {
		s.tracker.nodes.Watch(viewer, deviceID, told)
	}
	return out, nil
}
