package contract

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	parleyv1 "github.com/parley-im/parley/gen/parley/v1"
)

// look is all that the device shows of itself and of one session. What the SDKs count for themselves the server is asked
// for; while it cannot be, what it said last is shown.
func (g *gopher) look(ctx context.Context, id string) map[string]any {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	g.mu.Lock()
	known, wantsMembers := g.kept.sessions[id] != nil, g.kept.sessions[id] != nil && g.kept.sessions[id].members
	watched := g.watched
	g.mu.Unlock()
	var info *parleyv1.Session
	var gone bool
	members, reading, sessions, online, unread := []string{}, []string{}, []string{}, []string{}, int64(0)
	if g.isLive() {
		if known {
			res, err := g.groups.GetSession(ctx, &parleyv1.GetSessionRequest{SessionId: id})
			info, gone = res.GetSession(), reasonOf(err) == "SESSION_UNAVAILABLE"
		}
		if wantsMembers {
			res, _ := g.groups.ListMembers(ctx, &parleyv1.ListMembersRequest{SessionId: id, Limit: 1000})
			for _, m := range res.GetMembers() {
				members = append(members, m.GetUserId()+" "+roleName(m.GetRole()))
				reading = append(reading, fmt.Sprint(m.GetUserId(), " ", m.GetReadSeq()))
			}
		}
		res, _ := g.groups.ListSessions(ctx, &parleyv1.ListSessionsRequest{Limit: 200})
		for _, s := range res.GetSessions() {
			sessions = append(sessions, s.GetSessionId())
			unread += s.GetUnread()
		}
		if len(watched) > 0 {
			res, _ := g.presence.GetPresence(ctx, &parleyv1.GetPresenceRequest{UserIds: watched})
			for _, p := range res.GetPresences() {
				if p.GetIsOnline() {
					online = append(online, p.GetUserId())
				}
			}
		}
	}
	slices.Sort(members)
	slices.Sort(reading)
	slices.Sort(online)
	g.mu.Lock()
	defer g.mu.Unlock()
	view := map[string]any{
		"connection": g.connection, "reason": g.reason, "problems": append([]string{}, g.problems...),
		"resets": append([]string{}, g.resets...), "members": members, "reading": reading, "sessions": sessions, "unread": unread,
		"online": online,
		"shown":  []string{}, "skipped": []string{}, "listed": g.waiting(id), "typing": []string{}, "info": nil,
	}
	j := g.kept.sessions[id]
	if j == nil {
		return view
	}
	if info != nil {
		j.info = info
		j.hiddenTo = max(j.hiddenTo, info.GetMembership().GetDeletedToSeq())
	} else if gone {
		j.info = nil
	}
	view["shown"], view["skipped"] = append([]string{}, j.shown...), append([]string{}, j.skipped...)
	listed := []string{}
	for _, m := range j.log {
		if m.GetSeq() > j.hiddenTo && !j.hidden[m.GetSeq()] {
			listed = append(listed, entryText(m))
		}
	}
	view["listed"] = append(listed, g.waiting(id)...)
	typing := []string{}
	for _, user := range slices.Sorted(maps.Keys(j.typing)) {
		if time.Now().Before(j.typing[user]) {
			typing = append(typing, user)
		}
	}
	view["typing"] = typing
	if s := j.info; s != nil {
		own := s.GetMembership()
		view["info"] = map[string]any{
			"title": s.GetTitle(), "isMember": own != nil && own.GetLeftSeq() == 0, "role": roleName(own.GetRole()),
			"memberCount": s.GetMemberCount(), "isMuted": own.GetIsMuted(), "isPinned": own.GetIsPinned(),
			"markedUnread": own.GetMarkedUnread(), "unread": s.GetUnread(), "readSeq": own.GetReadSeq(),
			"headSeq": max(s.GetHeadSeq(), j.at),
		}
	}
	return view
}

// keeps lists what the device's store has of a session.
func (g *gopher) keeps(id string) []string {
	g.mu.Lock()
	defer g.mu.Unlock()
	out := []string{}
	for _, m := range g.journal(id).log {
		out = append(out, entryText(m))
	}
	return append(out, g.waiting(id)...)
}

// waiting lists what is on its way to the log, or was refused.
func (g *gopher) waiting(id string) []string {
	out := []string{}
	for _, o := range g.kept.outbox {
		if o.session != id {
			continue
		}
		status := " pending"
		if o.failed != "" {
			status = " failed " + o.failed
		}
		m := &parleyv1.Message{SenderId: g.me, Content: o.req.GetContent(), ReplyToSeq: o.req.GetReplyToSeq()}
		out = append(out, entryText(m)+status)
	}
	return out
}

// entryText is an entry in the words of the contract.
func entryText(m *parleyv1.Message) string {
	seq, reply := "-", ""
	if m.GetSeq() > 0 {
		seq = fmt.Sprint(m.GetSeq())
	}
	if m.GetReplyToSeq() > 0 {
		reply = fmt.Sprintf(" (re %d)", m.GetReplyToSeq())
	}
	return seq + " " + m.GetSenderId() + " " + contentText(m) + reply
}

func contentText(m *parleyv1.Message) string {
	if m.GetIsDeleted() {
		return "(recalled)"
	}
	switch c := m.GetContent().GetKind().(type) {
	case *parleyv1.Content_Text:
		return c.Text.GetBody()
	case *parleyv1.Content_Custom:
		return "custom " + c.Custom.GetTypeUrl()
	case *parleyv1.Content_Attachment:
		return "attachment " + c.Attachment.GetUrl()
	case *parleyv1.Content_Recall:
		return fmt.Sprintf("recalls %d", c.Recall.GetSeq())
	case *parleyv1.Content_MemberChange:
		kind := camel(strings.TrimPrefix(c.MemberChange.GetKind().String(), "MEMBER_CHANGE_KIND_"))
		text := kind + " " + strings.Join(slices.Sorted(slices.Values(c.MemberChange.GetUserIds())), " ")
		if kind == "roleChanged" {
			text += " " + roleName(c.MemberChange.GetRole())
		}
		return text
	case *parleyv1.Content_SessionChange:
		text := "settings"
		if s := c.SessionChange; s.Title != nil {
			text += " title=" + s.GetTitle()
		}
		if s := c.SessionChange; s.AvatarUrl != nil {
			text += " avatarUrl=" + s.GetAvatarUrl()
		}
		if s := c.SessionChange; s.HistoryVisible != nil {
			text += fmt.Sprintf(" historyVisible=%v", s.GetHistoryVisible())
		}
		if s := c.SessionChange; s.SendRole != nil {
			text += " sendRole=" + roleName(s.GetSendRole())
		}
		return text
	}
	return "unknown"
}

func roleName(r parleyv1.MemberRole) string {
	switch r {
	case parleyv1.MemberRole_MEMBER_ROLE_OWNER:
		return "owner"
	case parleyv1.MemberRole_MEMBER_ROLE_ADMIN:
		return "admin"
	case parleyv1.MemberRole_MEMBER_ROLE_MEMBER, parleyv1.MemberRole_MEMBER_ROLE_UNSPECIFIED:
	}
	return "member"
}

func camel(upper string) string {
	words := strings.Split(strings.ToLower(upper), "_")
	for i := range words[1:] {
		words[i+1] = strings.ToUpper(words[i+1][:1]) + words[i+1][1:]
	}
	return strings.Join(words, "")
}
