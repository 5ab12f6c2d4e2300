// A bot: answers every text that others write to bob, for SECONDS (60).
import { ParleyClient } from "@parley-im/client";

const baseUrl = process.env["PARLEY_URL"] ?? "http://127.0.0.1:8080";
const client = new ParleyClient({ baseUrl, token: () => process.env["BOB"] ?? "" });
const events = client.events(AbortSignal.timeout(1000 * Number(process.env["SECONDS"] ?? 60)));
client.start();
for await (const event of events) {
  if (event.type !== "message") continue;
  const { sessionId, senderId, seq, content } = event.message;
  if (senderId === client.me.value?.userId || content?.kind !== "text") continue;
  console.log(`${senderId}: ${content.body}`);
  client.session(sessionId).send(`you said: ${content.body}`, { replyToSeq: seq });
}
await client.stop();
