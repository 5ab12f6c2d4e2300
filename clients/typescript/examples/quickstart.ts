// alice says hi, bob sees it. PARLEY_URL, ALICE and BOB are what `make run` prints.
import { ParleyClient } from "@parley-im/client";

const baseUrl = process.env["PARLEY_URL"] ?? "http://127.0.0.1:8080";
const alice = new ParleyClient({ baseUrl, token: () => process.env["ALICE"] ?? "" });
const bob = new ParleyClient({ baseUrl, token: () => process.env["BOB"] ?? "" });
const events = bob.events();
alice.start();
bob.start();

const { sent } = (await alice.direct("bob")).send("hi bob");
const { messageId } = await sent;
for await (const event of events) {
  if (event.type !== "message" || event.message.content?.kind !== "text") continue;
  console.log(`${event.message.senderId}: ${event.message.content.body}`);
  if (event.message.messageId === messageId) break;
}
await Promise.all([alice.stop(), bob.stop()]);
