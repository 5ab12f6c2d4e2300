package contract

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"

	parleyv1 "github.com/parley-im/parley/gen/parley/v1"
	"github.com/parley-im/parley/server/session"
)

// gophers works devices in Go, by the same calls as the runners of the other languages.
type gophers struct {
	mu      sync.Mutex
	devices map[string]*gopher
	stores  map[string]*kept
}

func newGophers() *gophers {
	return &gophers{devices: map[string]*gopher{}, stores: map[string]*kept{}}
}

// args are what a call says beside its name.
type args struct {
	BaseURL        string   `json:"baseUrl"`
	Tokens         []string `json:"tokens"`
	Store          string   `json:"store"`
	MaxBacklog     int32    `json:"maxBacklog"`
	Session        string   `json:"session"`
	User           string   `json:"user"`
	Users          []string `json:"users"`
	Members        []string `json:"members"`
	Device         string   `json:"device"`
	Kind           string   `json:"kind"`
	Bodies         []string `json:"bodies"`
	ReplyToSeq     int64    `json:"replyToSeq"`
	Seq            int64    `json:"seq"`
	Seqs           []int64  `json:"seqs"`
	UpToSeq        int64    `json:"upToSeq"`
	Limit          int32    `json:"limit"`
	Title          *string  `json:"title"`
	HistoryVisible *bool    `json:"historyVisible"`
	Role           string   `json:"role"`
	SendRole       string   `json:"sendRole"`
	IsMuted        *bool    `json:"isMuted"`
	IsPinned       *bool    `json:"isPinned"`
	IsTyping       *bool    `json:"isTyping"`
}

func (gs *gophers) work(ctx context.Context, c call) (answer, error) {
	raw, err := json.Marshal(c.With)
	if err != nil {
		return answer{}, err
	}
	var w args
	if err := json.Unmarshal(raw, &w); err != nil {
		return answer{}, err
	}
	what, err := gs.do(ctx, c.Device, c.Do, w)
	if err != nil {
		return answer{Refused: &refusal{Reason: reasonOf(err), Message: err.Error()}}, nil
	}
	ok, err := json.Marshal(what)
	return answer{OK: ok}, err
}

func (gs *gophers) do(ctx context.Context, device, do string, w args) (any, error) {
	gs.mu.Lock()
	g := gs.devices[device]
	gs.mu.Unlock()
	switch do {
	case "open":
		gs.open(device, w)
		return nil, nil
	case "close":
		if g != nil {
			g.close()
		}
		return nil, nil
	}
	if g == nil {
		return nil, fmt.Errorf("%s is not open", device)
	}
	return g.do(ctx, do, w)
}

func (gs *gophers) open(device string, w args) {
	gs.mu.Lock()
	defer gs.mu.Unlock()
	k := gs.stores[w.Store]
	if w.Store == "" || k == nil {
		k = &kept{sessions: map[string]*journal{}}
	}
	gs.stores[w.Store] = k
	g := newGopher(w.BaseURL, w.Tokens, k)
	g.maxBacklog = w.MaxBacklog
	g.me = userOf(w.Tokens[len(w.Tokens)-1])
	gs.devices[device] = g
	g.start()
}

func (g *gopher) do(ctx context.Context, do string, w args) (any, error) {
	id := w.Session
	switch do {
	case "start":
		g.start()
	case "stop":
		g.halt()
	case "look":
		return g.look(ctx, id), nil
	case "send":
		g.send(w)
	case "sendAndWait":
		return g.wait(ctx, g.send(w))
	case "retry":
		g.retry(id)
	case "discard":
		g.discard(id)
	case "markRead":
		g.work.Go(func() { g.markRead(id, w.UpToSeq) })
	case "direct":
		return g.direct(w.User), nil
	case "group":
		return g.group(ctx, w)
	case "loadMembers":
		g.mu.Lock()
		g.journal(id).members = true
		g.mu.Unlock()
	case "stored": // it keeps everything at once
	case "kept":
		return g.keeps(id), nil
	case "loadOlder":
		return g.loadOlder(ctx, w)
	case "deleteForMe":
		return nil, g.deleteForMe(ctx, w)
	default:
		return g.ask(ctx, do, w)
	}
	return nil, nil
}

// ask does what is one call of the API.
func (g *gopher) ask(ctx context.Context, do string, w args) (any, error) {
	id := w.Session
	var err error
	switch do {
	case "recall":
		_, err = g.messages.RecallMessage(ctx, &parleyv1.RecallMessageRequest{SessionId: id, Seq: w.Seq})
	case "markUnread":
		_, err = g.states.MarkUnread(ctx, &parleyv1.MarkUnreadRequest{SessionId: id})
	case "readers":
		res, err := g.states.ListReaders(ctx, &parleyv1.ListReadersRequest{SessionId: id, Seq: w.Seq, Limit: 1000})
		users := []string{}
		for _, r := range res.GetReaders() {
			users = append(users, r.GetUserId())
		}
		slices.Sort(users)
		return users, err
	case "setTyping":
		typing := &parleyv1.Typing{IsTyping: w.IsTyping == nil || *w.IsTyping}
		signal := &parleyv1.Signal{Kind: &parleyv1.Signal_Typing{Typing: typing}}
		_, err = g.sync.SendSignal(ctx, &parleyv1.SendSignalRequest{SessionId: id, Signal: signal})
	case "addMembers":
		_, err = g.groups.AddMembers(ctx, &parleyv1.AddMembersRequest{SessionId: id, UserIds: w.Users})
	case "removeMember":
		_, err = g.groups.RemoveMember(ctx, &parleyv1.RemoveMemberRequest{SessionId: id, UserId: w.User})
	case "setMember":
		_, err = g.groups.SetMemberRole(ctx, &parleyv1.SetMemberRoleRequest{SessionId: id, UserId: w.User, Role: role(w.Role), IsMuted: w.IsMuted})
	case "leave":
		_, err = g.groups.LeaveSession(ctx, &parleyv1.LeaveSessionRequest{SessionId: id})
	case "update":
		req := &parleyv1.UpdateSessionRequest{SessionId: id, Title: w.Title, HistoryVisible: w.HistoryVisible}
		if w.SendRole != "" {
			req.SendRole = role(w.SendRole).Enum()
		}
		_, err = g.groups.UpdateSession(ctx, req)
	case "updateOwn":
		_, err = g.groups.UpdateMembership(ctx, &parleyv1.UpdateMembershipRequest{SessionId: id, IsPinned: w.IsPinned})
	case "block":
		_, err = g.relations.BlockUser(ctx, &parleyv1.BlockUserRequest{UserId: w.User})
	case "unblock":
		_, err = g.relations.UnblockUser(ctx, &parleyv1.UnblockUserRequest{UserId: w.User})
	case "relations":
		kind := parleyv1.RelationKind(parleyv1.RelationKind_value["RELATION_KIND_"+strings.ToUpper(w.Kind)])
		res, err := g.relations.ListRelations(ctx, &parleyv1.ListRelationsRequest{Kind: kind})
		users := []string{}
		for _, r := range res.GetRelations() {
			users = append(users, r.GetUserId())
		}
		slices.Sort(users)
		return users, err
	case "devices":
		res, err := g.devices.ListDevices(ctx, &parleyv1.ListDevicesRequest{})
		ids := []string{}
		for _, d := range res.GetDevices() {
			ids = append(ids, d.GetDeviceId())
		}
		slices.Sort(ids)
		return ids, err
	case "revokeDevice":
		_, err = g.devices.RevokeDevice(ctx, &parleyv1.RevokeDeviceRequest{DeviceId: w.Device})
	case "watchPresence":
		g.mu.Lock()
		g.watched = w.Users
		g.mu.Unlock()
		_, err = g.presence.WatchPresence(ctx, &parleyv1.WatchPresenceRequest{UserIds: w.Users})
	case "presence":
		res, err := g.presence.GetPresence(ctx, &parleyv1.GetPresenceRequest{UserIds: []string{w.User}})
		if err != nil || len(res.GetPresences()) == 0 {
			return nil, err
		}
		return res.GetPresences()[0].GetIsOnline(), nil
	default:
		err = fmt.Errorf("no such call: %s", do)
	}
	return nil, err
}

func role(name string) parleyv1.MemberRole {
	return parleyv1.MemberRole(parleyv1.MemberRole_value["MEMBER_ROLE_"+strings.ToUpper(name)])
}

// send hands texts over.
func (g *gopher) send(w args) (out []*outgoing) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, body := range w.Bodies {
		req := &parleyv1.SendMessageRequest{MessageId: uuid.NewString(), ReplyToSeq: w.ReplyToSeq,
			Content: &parleyv1.Content{Kind: &parleyv1.Content_Text{Text: &parleyv1.Text{Body: body}}},
			Target:  &parleyv1.SendMessageRequest_SessionId{SessionId: w.Session}}
		if peer, ok := g.peers[w.Session]; ok {
			req.Target = &parleyv1.SendMessageRequest_PeerUserId{PeerUserId: peer}
		}
		out = append(out, &outgoing{req: req, session: w.Session, done: make(chan struct{})})
	}
	g.kept.outbox = append(g.kept.outbox, out...)
	select {
	case g.stir <- struct{}{}:
	default:
	}
	return out
}

func (g *gopher) wait(ctx context.Context, all []*outgoing) ([]int64, error) {
	var seqs []int64
	for _, o := range all {
		select {
		case <-o.done:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		g.mu.Lock()
		seq, err := o.seq, o.err
		g.mu.Unlock()
		if err != nil {
			return nil, err
		}
		seqs = append(seqs, seq)
	}
	return seqs, nil
}

// direct is the direct session with a user, as the server derives its id.
func (g *gopher) direct(peer string) string {
	id, _, _ := session.DirectID(g.me, peer)
	g.mu.Lock()
	defer g.mu.Unlock()
	g.peers[id.String()] = peer
	return id.String()
}

// userOf reads from a token whose it is.
func userOf(token string) string {
	var claims struct {
		Sub string `json:"sub"`
	}
	parts := strings.Split(token, ".")
	if raw, err := base64.RawURLEncoding.DecodeString(parts[len(parts)/2]); err == nil {
		_ = json.Unmarshal(raw, &claims)
	}
	return claims.Sub
}

// retry hands what was refused over again, behind what waits.
func (g *gopher) retry(id string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for i, o := range g.kept.outbox {
		if o.session == id && o.failed != "" {
			g.kept.outbox[i] = &outgoing{req: o.req, session: id, done: make(chan struct{})}
		}
	}
}

func (g *gopher) discard(id string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.kept.outbox = slices.DeleteFunc(g.kept.outbox, func(o *outgoing) bool { return o.session == id && o.failed != "" })
}

// markRead tells a read position as soon as it can be told.
func (g *gopher) markRead(id string, upTo int64) {
	g.mu.Lock()
	if at := g.journal(id).at; upTo == 0 || upTo > at {
		upTo = at
	}
	g.mu.Unlock()
	for g.ctx.Err() == nil && upTo > 0 {
		_, err := g.states.MarkRead(g.ctx, &parleyv1.MarkReadRequest{SessionId: id, UpToSeq: upTo})
		if err == nil || final(reasonOf(err)) {
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
}

func (g *gopher) group(ctx context.Context, w args) (string, error) {
	group := &parleyv1.Group{SendRole: role(w.SendRole)}
	if w.Title != nil {
		group.Title = *w.Title
	}
	if w.HistoryVisible != nil {
		group.HistoryVisible = *w.HistoryVisible
	}
	res, err := g.groups.CreateSession(ctx, &parleyv1.CreateSessionRequest{Group: group, MemberIds: w.Members, RequestId: uuid.NewString()})
	return res.GetSession().GetSessionId(), err
}

// loadOlder makes the list longer at its old end.
func (g *gopher) loadOlder(ctx context.Context, w args) (bool, error) {
	g.mu.Lock()
	j := g.journal(w.Session)
	before := j.at + 1
	if len(j.log) > 0 {
		before = j.log[0].GetSeq()
	}
	g.mu.Unlock()
	if before == 1 {
		return false, nil
	}
	page, err := g.messages.ListMessages(ctx, &parleyv1.ListMessagesRequest{SessionId: w.Session, Limit: w.Limit,
		Position: &parleyv1.ListMessagesRequest_BeforeSeq{BeforeSeq: before}})
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, m := range page.GetMessages() {
		j.hidden[m.GetSeq()] = m.GetState().GetIsDeleted()
	}
	j.log = append(page.GetMessages(), j.log...)
	return page.GetHasMore(), err
}

func (g *gopher) deleteForMe(ctx context.Context, w args) error {
	res, err := g.states.DeleteForMe(ctx, &parleyv1.DeleteForMeRequest{SessionId: w.Session, UpToSeq: w.UpToSeq, Seqs: w.Seqs})
	if err != nil {
		return err
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	j := g.journal(w.Session)
	for _, seq := range w.Seqs {
		j.hidden[seq] = true
	}
	j.hiddenTo = max(j.hiddenTo, res.GetDeletedToSeq())
	return nil
}
