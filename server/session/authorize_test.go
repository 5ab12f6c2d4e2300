package session_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/parley-im/parley/server/session"
)

var actions = []session.Action{
	session.Read, session.ListMembers, session.SetOwn, session.Send, session.Signal, session.RecallOwn, session.RecallOthers,
	session.Update, session.Add, session.Remove, session.Leave, session.Manage, session.GiveRole, session.Mute,
}

// What nobody was given nobody has: to strangers, and to what is no action, there is no session.
func TestAuthorizeDeniesByDefault(t *testing.T) {
	owner := session.Part{Known: true, Active: true, Kind: session.KindGroup, Role: session.RoleOwner, SendRole: session.RoleOwner}
	for _, a := range actions {
		require.NoError(t, session.Authorize(a, owner), a)
		require.Equal(t, session.Unavailable, session.Authorize(a, session.Part{}), a)
		stranger := owner
		stranger.Known = false
		require.Equal(t, session.Unavailable, session.Authorize(a, stranger), a)
	}
	require.Equal(t, session.Unavailable, session.Authorize("", owner))
	require.Equal(t, session.Unavailable, session.Authorize("fly", owner))
}

// A higher role may whatever a lower one may, and a member whatever a former one may.
func TestAuthorizeIsMonotone(t *testing.T) {
	for _, a := range actions {
		for _, kind := range []session.Kind{session.KindDirect, session.KindGroup} {
			for _, muted := range []bool{false, true} {
				for _, needed := range []session.Role{session.RoleMember, session.RoleAdmin, session.RoleOwner} {
					p := session.Part{Known: true, Kind: kind, Muted: muted, SendRole: needed}
					allowed := false
					for _, p.Role = range []session.Role{session.RoleMember, session.RoleAdmin, session.RoleOwner} {
						p.Active = false
						former := session.Authorize(a, p) == nil
						p.Active = true
						now := session.Authorize(a, p) == nil
						require.False(t, former && !now, "%s: %+v", a, p)
						require.False(t, allowed && !now, "%s: %+v", a, p)
						allowed = now
					}
				}
			}
		}
	}
}

// Nobody acts on who stands as high: no admin on an admin, and not on themself; on who is gone, everybody does who may at all.
func TestAuthorizeOver(t *testing.T) {
	as := func(r session.Role) session.Part {
		return session.Part{Known: true, Active: true, Kind: session.KindGroup, Role: r, SendRole: session.RoleMember}
	}
	roles := []session.Role{session.RoleMember, session.RoleAdmin, session.RoleOwner}
	for _, a := range []session.Action{session.Remove, session.Mute, session.RecallOthers} {
		for _, own := range roles {
			for _, of := range roles {
				may := own >= session.RoleAdmin && own > of
				require.Equal(t, may, session.AuthorizeOver(a, as(own), as(of)) == nil, "%s: %d over %d", a, own, of)
				gone := as(of)
				gone.Active = false
				require.Equal(t, own >= session.RoleAdmin, session.AuthorizeOver(a, as(own), gone) == nil)
			}
		}
		require.Equal(t, session.Unavailable, session.AuthorizeOver(a, session.Part{}, as(session.RoleMember)))
	}
}
