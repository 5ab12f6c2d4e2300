// A device that keeps everything: what was entered while the server was away is sent after a reload. In a page leave the
// first import out: the browser has IndexedDB itself.
import "fake-indexeddb/auto";
import { IndexedDbStore, ParleyClient, type ClientOptions } from "@parley-im/client";

const baseUrl = process.env["PARLEY_URL"] ?? "http://127.0.0.1:8080";
const options = (baseUrl: string): ClientOptions => ({
  baseUrl,
  token: () => process.env["ALICE"] ?? "",
  store: new IndexedDbStore("parley-alice"),
});

const before = new ParleyClient(options("http://127.0.0.1:9")); // nobody there
before.start();
const { message } = (await before.direct("bob")).send("written in a tunnel");
console.log(message.status, "while", before.connection.value.state);
await before.stop(); // the page is closed

const after = new ParleyClient(options(baseUrl));
after.start();
const bob = await after.direct("bob");
for await (const messages of bob.messages.values()) {
  const now = messages.find((m) => m.messageId === message.messageId);
  if (now?.status !== "sent") continue;
  console.log("sent as", now.seq);
  break;
}
await after.stop();
