package im.parley.client

/**
 * An entry, or (without one) a range of seqs that is left out with notice.
 *
 * @property from first seq
 * @property to last seq
 * @property message the entry
 */
internal class Piece(val from: Long, val to: Long, val message: Message? = null)

/**
 * Puts a session's entries in order: whichever way they come, [next] gives each once, in seq order. It is closed until
 * [open] says where it begins; what comes before that is held.
 */
internal class LogOrder {
    /** Last seq given, or left out with notice; null until opened. */
    var shown: Long? = null
        private set
    private val held = HashMap<Long, Piece>()

    val isOpen: Boolean get() = shown != null

    /** How many pieces are held back. */
    val waiting: Int get() = held.size

    /** The lowest seq that is held back. */
    val firstWaiting: Long get() = held.keys.minOrNull() ?: Long.MAX_VALUE

    /** Lets it begin after a seq. */
    fun open(after: Long) {
        if (shown == null) skip(after)
    }

    /** Takes an entry; one that was given before is passed over. The body of a held entry that it recalls is dropped. */
    fun add(message: Message) {
        hold(Piece(message.seq, message.seq, message))
        val recall = message.content as? RecallContent ?: return
        held[recall.seq]?.message?.let { held[recall.seq] = Piece(it.seq, it.seq, it.erased()) }
    }

    /** Takes the notice that a range of seqs will not come. */
    fun leaveOut(from: Long, to: Long) = hold(Piece(maxOf(from, shown?.plus(1) ?: from), to))

    /** Gives what follows on the last, if it is there. */
    fun next(): Piece? {
        val piece = held[(shown ?: return null) + 1] ?: return null
        skip(piece.to)
        return piece
    }

    /** Forgets everything. */
    fun reset() {
        shown = null
        held.clear()
    }

    // Passes over everything up to and including seq. The usual case, one entry after the other, is not to cost a search.
    private fun skip(seq: Long) {
        val before = shown
        val now = maxOf(before ?: 0, seq)
        shown = now
        if (before != null && now == before + 1) {
            held.remove(now)?.let { if (it.to > now) leaveOut(now + 1, it.to) }
            return
        }
        for (piece in held.values.filter { it.from <= now }) {
            held.remove(piece.from)
            if (piece.to > now) leaveOut(piece.from, piece.to)
        }
    }

    private fun hold(piece: Piece) {
        if (piece.to <= (shown ?: Long.MIN_VALUE)) return
        val known = held[piece.from]
        // An entry is worth more than the notice that it is left out; of two notices the longer one counts.
        if (known?.message != null && piece.message == null) {
            if (piece.to > piece.from) hold(Piece(piece.from + 1, piece.to))
            return
        }
        if (known != null && known.message == null && piece.message == null && known.to >= piece.to) return
        held[piece.from] = piece
        if (known != null && known.message == null && piece.message != null && known.to > known.from) {
            hold(Piece(known.from + 1, known.to))
        }
    }
}
