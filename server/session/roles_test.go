package session_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/parley-im/parley/server/refusal"
	"github.com/parley-im/parley/server/session"
)

// The cast of every table: two of each role, one who was removed, one who never was in the group, one who does not exist.
var (
	actors  = []string{"owner", "admin", "member", "removed", "stranger"}
	targets = []string{"owner2", "admin2", "member2", "removed", "stranger", "ghost", "self"}
)

// Outcomes in the tables: "+" one new entry, whose seq is the answer; "=" nothing new, the answer is the present head;
// "first" nothing new, the answer is where the target's membership ended; else the refusal.
var outcomes = map[string]refusal.Reason{
	"low": refusal.RoleTooLow, "user": refusal.UserUnavailable, "self": refusal.SelfTarget,
	"none": refusal.SessionUnavailable, "last": refusal.LastOwner, "direct": refusal.DirectSession,
}

// table is what an action of each actor (rows) on each target (columns) leads to.
type table struct {
	name   string
	muted  bool // the targets are muted beforehand
	action func(ctx context.Context, w *world, id uuid.UUID, by session.Actor, target string) (int64, error)
	want   string
}

func setting(to session.Standing) func(context.Context, *world, uuid.UUID, session.Actor, string) (int64, error) {
	return func(ctx context.Context, w *world, id uuid.UUID, by session.Actor, target string) (int64, error) {
		return w.SetMember(ctx, by, id, target, to)
	}
}

var tables = []table{
	{name: "remove",
		action: func(ctx context.Context, w *world, id uuid.UUID, by session.Actor, target string) (int64, error) {
			return w.RemoveMember(ctx, by, id, target)
		},
		want: `
			            owner2 admin2 member2 removed stranger ghost self
			owner       low    +      +       first   user     user  self
			admin       low    low    +       first   user     user  self
			member      low    low    low     low     low      low   self
			removed     none   none   none    none    none     none  none
			stranger    none   none   none    none    none     none  none`},
	{name: "make member", action: setting(session.Standing{Role: session.RoleMember}),
		want: `
			            owner2 admin2 member2 removed stranger ghost self
			owner       +      +      =       user    user     user  +
			admin       low    low    =       user    user     user  low
			member      low    low    =       user    user     user  =
			removed     none   none   none    none    none     none  none
			stranger    none   none   none    none    none     none  none`},
	{name: "make admin", action: setting(session.Standing{Role: session.RoleAdmin}),
		want: `
			            owner2 admin2 member2 removed stranger ghost self
			owner       +      =      +       user    user     user  +
			admin       low    =      low     user    user     user  =
			member      low    =      low     user    user     user  low
			removed     none   none   none    none    none     none  none
			stranger    none   none   none    none    none     none  none`},
	{name: "make owner", action: setting(session.Standing{Role: session.RoleOwner}),
		want: `
			            owner2 admin2 member2 removed stranger ghost self
			owner       =      +      +       user    user     user  =
			admin       =      low    low     user    user     user  low
			member      =      low    low     user    user     user  low
			removed     none   none   none    none    none     none  none
			stranger    none   none   none    none    none     none  none`},
	{name: "mute", action: setting(session.Standing{Muted: ptr(true)}),
		want: `
			            owner2 admin2 member2 removed stranger ghost self
			owner       low    +      +       user    user     user  low
			admin       low    low    +       user    user     user  low
			member      low    low    low     user    user     user  low
			removed     none   none   none    none    none     none  none
			stranger    none   none   none    none    none     none  none`},
	{name: "unmute", muted: true, action: setting(session.Standing{Muted: ptr(false)}),
		want: `
			            owner2 admin2 member2 removed stranger ghost self
			owner       low    +      +       user    user     user  low
			admin       low    low    +       user    user     user  low
			member      low    low    low     user    user     user  low
			removed     none   none   none    none    none     none  none
			stranger    none   none   none    none    none     none  none`},
	{name: "unmute who is not muted", action: setting(session.Standing{Muted: ptr(false)}),
		want: `
			            owner2 admin2 member2 removed stranger ghost self
			owner       =      =      =       user    user     user  =
			admin       =      =      =       user    user     user  =
			member      =      =      =       user    user     user  =
			removed     none   none   none    none    none     none  none
			stranger    none   none   none    none    none     none  none`},
	{name: "change nothing", action: setting(session.Standing{}),
		want: `
			            owner2 admin2 member2 removed stranger ghost self
			owner       =      =      =       user    user     user  =
			admin       =      =      =       user    user     user  =
			member      =      =      =       user    user     user  =
			removed     none   none   none    none    none     none  none
			stranger    none   none   none    none    none     none  none`},
	{name: "add",
		action: func(ctx context.Context, w *world, id uuid.UUID, by session.Actor, target string) (int64, error) {
			return w.AddMembers(ctx, by, id, []string{target})
		},
		want: `
			            owner2 admin2 member2 removed stranger ghost self
			owner       =      =      =       +       +        user  =
			admin       =      =      =       +       +        user  =
			member      low    low    low     low     low      low   low
			removed     none   none   none    none    none     none  none
			stranger    none   none   none    none    none     none  none`},
	{name: "change the title",
		action: func(ctx context.Context, w *world, id uuid.UUID, by session.Actor, target string) (int64, error) {
			seq, _, err := w.Update(ctx, by, id, session.GroupPatch{Title: ptr("by " + by.UserID + " for " + target)})
			return seq, err
		},
		want: `
			            owner2 admin2 member2 removed stranger ghost self
			owner       +      +      +       +       +        +     +
			admin       +      +      +       +       +        +     +
			member      low    low    low     low     low      low   low
			removed     none   none   none    none    none     none  none
			stranger    none   none   none    none    none     none  none`},
	{name: "leave",
		action: func(ctx context.Context, w *world, id uuid.UUID, by session.Actor, _ string) (int64, error) {
			return w.Leave(ctx, by, id)
		},
		want: `
			            owner2 admin2 member2 removed stranger ghost self
			owner       +      +      +       +       +        +     +
			admin       +      +      +       +       +        +     +
			member      +      +      +       +       +        +     +
			removed     first  first  first   first   first    first first
			stranger    none   none   none    none    none     none  none`},
}

// parse returns the outcome for each actor and target.
func (tb table) parse(t *testing.T) map[[2]string]string {
	lines := strings.Split(strings.TrimSpace(tb.want), "\n")
	require.Equal(t, targets, strings.Fields(lines[0]))
	require.Len(t, lines, len(actors)+1)
	out := make(map[[2]string]string)
	for i, line := range lines[1:] {
		cells := strings.Fields(line)
		require.Equal(t, actors[i], cells[0])
		require.Len(t, cells, len(targets)+1)
		for j, target := range targets {
			out[[2]string{cells[0], target}] = cells[j+1]
		}
	}
	return out
}

// castGroup makes a group with the whole cast and returns where "removed" was cut.
func (w *world) castGroup(t testing.TB, muted bool) (id uuid.UUID, firstCut int64) {
	id = w.group(t, session.Group{Title: "cast"}, "owner", "owner2", "admin", "admin2", "member", "member2", "removed")
	w.addUsers(t, "stranger")
	require.NoError(t, w.Change(t.Context(), id, func(ctx context.Context, l session.Log) error {
		for user, role := range map[string]session.Role{
			"owner2": session.RoleOwner, "admin": session.RoleAdmin, "admin2": session.RoleAdmin,
		} {
			if err := l.SetRole(ctx, user, role); err != nil {
				return err
			}
		}
		for _, user := range []string{"owner", "owner2", "admin", "admin2", "member", "member2"} {
			if err := l.SetMuted(ctx, user, muted); err != nil {
				return err
			}
		}
		return nil
	}))
	firstCut, err := w.RemoveMember(t.Context(), as("owner"), id, "removed")
	require.NoError(t, err)
	require.EqualValues(t, 2, firstCut)
	return id, firstCut
}

func TestRoles(t *testing.T) {
	onEach(t, func(t *testing.T, w *world) {
		for _, tb := range tables {
			t.Run(tb.name, func(t *testing.T) {
				want := tb.parse(t)
				id, firstCut := w.castGroup(t, tb.muted)
				for _, actor := range actors {
					for _, target := range targets {
						on := target
						if target == "self" {
							on = actor
						}
						name := fmt.Sprintf("%s on %s", actor, target)
						before, _ := w.locked(t, id)
						entries := len(w.entries(t, id))
						seq, err := tb.action(t.Context(), w, id, as(actor), on)
						after, _ := w.locked(t, id)
						switch outcome := want[[2]string{actor, target}]; outcome {
						case "+":
							require.NoError(t, err, name)
							require.Equal(t, before.LastSeq+1, seq, name)
							require.Equal(t, seq, after.LastSeq, name)
							require.Len(t, w.entries(t, id), entries+1, name)
							id, firstCut = w.castGroup(t, tb.muted) // as it was, for the next case
						case "=", "first":
							require.NoError(t, err, name)
							require.Equal(t, before, after, name)
							if outcome == "first" {
								require.Equal(t, firstCut, seq, name)
							} else {
								require.Equal(t, before.LastSeq, seq, name)
							}
						default:
							require.Contains(t, outcomes, outcome)
							require.Error(t, err, name)
							reason, _ := refusal.Of(err)
							require.Equal(t, outcomes[outcome], reason, name)
							require.Zero(t, seq, name)
							require.Equal(t, before, after, name)
							require.Len(t, w.entries(t, id), entries, name)
						}
					}
				}
			})
		}
	})
}

// What strangers, former members and everybody else are told of a session, existing or not, is one and the same.
func TestUnavailableLooksTheSame(t *testing.T) {
	onEach(t, func(t *testing.T, w *world) {
		id, _ := w.castGroup(t, false)
		for _, tb := range tables {
			for _, c := range []struct {
				actor string
				id    uuid.UUID
			}{{"stranger", id}, {"stranger", uuid.New()}, {"owner", uuid.New()}, {"removed", id}} {
				if tb.name == "leave" && c.actor == "removed" {
					continue // gets the cut, which they know
				}
				for _, target := range targets {
					_, err := tb.action(t.Context(), w, c.id, as(c.actor), target)
					require.Equal(t, session.Unavailable, err, "%s: %s on %s", tb.name, c.actor, target)
				}
			}
		}
	})
}

func TestDirectSessionsHaveNoRoles(t *testing.T) {
	onEach(t, func(t *testing.T, w *world) {
		w.addUsers(t, "a", "b", "c")
		id := w.direct(t, "a", "b")
		for _, tb := range tables {
			_, err := tb.action(t.Context(), w, id, as("a"), "b")
			requireRefused(t, refusal.DirectSession, err)
			_, err = tb.action(t.Context(), w, id, as("c"), "b")
			require.Equal(t, session.Unavailable, err)
		}
	})
}

func TestOwnersStepDown(t *testing.T) {
	onEach(t, func(t *testing.T, w *world) {
		id := w.group(t, session.Group{}, "a", "b")
		for _, role := range []session.Role{session.RoleMember, session.RoleAdmin} {
			_, err := w.SetMember(t.Context(), as("a"), id, "a", session.Standing{Role: role})
			requireRefused(t, refusal.LastOwner, err)
		}
		_, err := w.SetMember(t.Context(), as("a"), id, "b", session.Standing{Role: session.RoleOwner})
		require.NoError(t, err)
		_, err = w.SetMember(t.Context(), as("a"), id, "a", session.Standing{Role: session.RoleMember})
		require.NoError(t, err)
		_, err = w.SetMember(t.Context(), as("a"), id, "a", session.Standing{Role: session.RoleOwner})
		requireRefused(t, refusal.RoleTooLow, err)
		_, err = w.SetMember(t.Context(), as("b"), id, "b", session.Standing{Role: session.RoleMember})
		requireRefused(t, refusal.LastOwner, err)
	})
}

// Role and mute in one call are two entries, the second judged by what the first made, and both or none.
func TestRoleAndMuteTogether(t *testing.T) {
	onEach(t, func(t *testing.T, w *world) {
		id, _ := w.castGroup(t, false)
		before, _ := w.locked(t, id)
		seq, err := w.SetMember(t.Context(), as("owner"), id, "owner2",
			session.Standing{Role: session.RoleMember, Muted: ptr(true)})
		require.NoError(t, err)
		require.Equal(t, before.LastSeq+2, seq)
		m, _ := w.member(t, id, "owner2")
		require.Equal(t, session.RoleMember, m.Role)
		require.True(t, m.Muted)

		_, err = w.SetMember(t.Context(), as("owner"), id, "member",
			session.Standing{Role: session.RoleOwner, Muted: ptr(true)})
		requireRefused(t, refusal.RoleTooLow, err)
		m, _ = w.member(t, id, "member")
		require.Equal(t, session.RoleMember, m.Role, "the role was given although the call was refused")
		after, _ := w.locked(t, id)
		require.Equal(t, seq, after.LastSeq)
	})
}
