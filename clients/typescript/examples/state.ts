// State that a page shows: the connection, the list of sessions, unread counts, who is typing. For SECONDS (60).
import { ParleyClient } from "@parley-im/client";

const baseUrl = process.env["PARLEY_URL"] ?? "http://127.0.0.1:8080";
const client = new ParleyClient({ baseUrl, token: () => process.env["ALICE"] ?? "", fresh: true });
client.connection.subscribe(({ state, error }) => console.log("connection:", state, error?.reason ?? ""));
client.unread.subscribe((n) => console.log("unread:", n));
client.sessions.subscribe((list) => {
  for (const s of list) console.log(`  ${s.title || s.peerUserId}: ${s.unread} unread, last seq ${s.headSeq}`);
});
client.start();

const bob = await client.direct("bob");
bob.typing.subscribe((users) => users.length > 0 && console.log(users.join(", "), "typing"));
bob.setTyping(true);
// The same as an AsyncIterable: it gives the newest value, and ends with the signal.
for await (const messages of bob.messages.values(AbortSignal.timeout(1000 * Number(process.env["SECONDS"] ?? 60)))) {
  console.log("messages:", messages.map((m) => `#${m.seq} ${m.status}`).join(", "));
  if (messages.length > 0) bob.markRead();
}
if (await bob.loadOlder(20)) console.log("there is more");
await client.stop();
