package relation

import "github.com/parley-im/parley/server/refusal"

// Standing is what deciding on a change takes, as locked, from the side of the user who acts.
type Standing struct {
	Pair
	CallerKnown  bool
	CallerActive bool // known and not deactivated
	PeerKnown    bool
	PeerActive   bool // known and not deactivated
}

// The refusals of this package. They are shared and therefore never changed.
var (
	errSelf = refusal.New(refusal.SelfTarget, "A user has no relation with themself.", "field", "user_id")
	// errRecipient stands for unknown, deactivated and blocking users: the caller must not learn which.
	errRecipient   = refusal.New(refusal.RecipientUnavailable, "This user cannot be reached.")
	errBlockedByMe = refusal.New(refusal.RecipientBlockedByYou, "You have blocked this user.")
	errUnknown     = refusal.New(refusal.UserUnavailable, "There is no such user.")
	errNoRequest   = refusal.New(refusal.RelationUnavailable, "There is no request from this user.")
	errCaller      = refusal.New(refusal.DeviceRevoked, "This device was revoked or never registered.")
	errCallerGone  = refusal.New(refusal.UserDeactivated, "This user was deactivated.")
	errFull        = refusal.New(refusal.TooManyRelations, "A user may have 10000 friends and requests; end one first.", "limit", "10000")
	errBlocksFull  = refusal.New(refusal.TooManyRelations, "A user may block 10000 others; unblock one first.", "limit", "10000")
)

// A rule says what becomes of a pair when the user on whose side it is does something, or refuses. Rules change nothing
// but what they return, and keep: friendship is mutual, and no friendship or request stands beside a block.
type rule func(Standing) (Pair, error)

// request asks for friendship. Both asking makes both friends.
func request(st Standing) (Pair, error) {
	if st.Own == MarkBlocked {
		return Pair{}, errBlockedByMe
	}
	if !st.PeerActive || st.Other == MarkBlocked {
		return Pair{}, errRecipient
	}
	switch {
	case st.Own == MarkFriend || st.Own == MarkRequested:
		return st.Pair, nil
	case st.Other == MarkRequested:
		return befriended, nil
	default:
		return Pair{Own: MarkRequested}, nil
	}
}

// accept makes a received request a friendship. Accepting again, as after an answer that got lost, changes nothing.
func accept(st Standing) (Pair, error) {
	switch {
	case st.Own == MarkFriend:
		return st.Pair, nil
	case st.Kind() != RequestReceived:
		return Pair{}, errNoRequest
	case !st.PeerActive:
		return Pair{}, errRecipient
	default:
		return befriended, nil
	}
}

// decline drops a received request.
func decline(st Standing) (Pair, error) {
	if st.Kind() != RequestReceived {
		return Pair{}, errNoRequest
	}
	return Pair{}, nil
}

// remove ends a friendship or the user's own request.
func remove(st Standing) (Pair, error) {
	switch st.Own {
	case MarkFriend:
		return st.withoutTies(), nil
	case MarkRequested:
		return Pair{Other: st.Other}, nil
	default:
		return st.Pair, nil
	}
}

// block ends friendship and requests both ways; the other's block stays.
func block(st Standing) (Pair, error) {
	if !st.PeerKnown {
		return Pair{}, errUnknown
	}
	return Pair{Own: MarkBlocked, Other: st.withoutTies().Other}, nil
}

// unblock ends a block.
func unblock(st Standing) (Pair, error) {
	if st.Own != MarkBlocked {
		return st.Pair, nil
	}
	return Pair{Other: st.Other}, nil
}
