package im.parley.client

/** The stretch of a session's log that is in memory, ascending by seq. */
internal class Window {
    private var entries = ArrayList<Message>()

    val list: List<Message> get() = entries
    val first: Message? get() = entries.firstOrNull()
    val last: Message? get() = entries.lastOrNull()

    /** Puts a message in its place; one of the same seq is replaced, unless that was recalled meanwhile. */
    fun put(message: Message) {
        val at = place(message.seq)
        val known = entries.getOrNull(at)
        when {
            known?.seq != message.seq -> entries.add(at, message)
            !known.isDeleted -> entries[at] = message
        }
    }

    /** Takes the body of a recalled message away, if it is here. */
    fun erase(seq: Long) {
        val at = place(seq)
        if (entries.getOrNull(at)?.seq == seq) entries[at] = entries[at].erased()
    }

    /** Keeps at most the last [limit] messages. Returns whether some went. */
    fun trim(limit: Int): Boolean {
        if (entries.size <= limit) return false
        entries = ArrayList(entries.subList(entries.size - limit, entries.size))
        return true
    }

    fun clear() = entries.clear()

    // The place of the first message with at least this seq.
    private fun place(seq: Long): Int {
        if (entries.isEmpty() || entries.last().seq < seq) return entries.size
        val at = entries.binarySearchBy(seq) { it.seq }
        return if (at >= 0) at else -at - 1
    }
}
