package relation

// Kind is what one user is to another, as that other sees it. The numbers are those of parley.v1.RelationKind.
type Kind int16

// The kinds of relations.
const (
	None            Kind = 0
	Friend          Kind = 1
	Requested       Kind = 2 // the one who looks has asked
	RequestReceived Kind = 3 // the one who looks was asked
	Blocked         Kind = 4 // by the one who looks; being blocked is not shown
)

// Mark is what is stored of a relation in one direction. The numbers are those of user_to_user.kind.
type Mark int16

// The marks that one user can set on another.
const (
	Unmarked      Mark = 0 // no row
	MarkFriend    Mark = 1
	MarkRequested Mark = 2
	MarkBlocked   Mark = 3
)

// Pair is all that two users are to each other, from the side of one of them: Own is that user's mark on the other,
// Other the other's mark on that user.
type Pair struct{ Own, Other Mark }

// Kind returns what the other user is to the one on whose side the pair is.
func (p Pair) Kind() Kind {
	switch p.Own {
	case MarkFriend:
		return Friend
	case MarkRequested:
		return Requested
	case MarkBlocked:
		return Blocked
	default:
		if p.Other == MarkRequested {
			return RequestReceived
		}
		return None
	}
}

// Flip returns the pair from the other user's side.
func (p Pair) Flip() Pair { return Pair{Own: p.Other, Other: p.Own} }

// befriended is the only pair in which there are friends: they always are so in both directions.
var befriended = Pair{Own: MarkFriend, Other: MarkFriend}

// withoutTies returns the pair without friendship and requests, blocks kept.
func (p Pair) withoutTies() Pair {
	if p.Own != MarkBlocked {
		p.Own = Unmarked
	}
	if p.Other != MarkBlocked {
		p.Other = Unmarked
	}
	return p
}
