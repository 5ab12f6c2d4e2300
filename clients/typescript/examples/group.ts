// A group: make it, change it, see who is in it and who has read, take a message back, leave.
import { ParleyClient, ParleyError } from "@parley-im/client";

const baseUrl = process.env["PARLEY_URL"] ?? "http://127.0.0.1:8080";
const client = new ParleyClient({ baseUrl, token: () => process.env["ALICE"] ?? "" });
client.start();
const group = await client.createGroup({ title: "lunch", memberIds: ["bob"], sendRole: "member" });
const { seq } = await group.send({ kind: "custom", typeUrl: "lunch.example/vote", payload: new Uint8Array([1]) }).sent;
await group.update({ title: "lunch at noon" });
await group.setMember("bob", { role: "admin" });
console.log("members:", (await group.loadMembers()).map((m) => `${m.userId} (${m.role})`).join(", "));
console.log("read by:", await group.readers(seq));
await group.recall(seq);
await group.updateOwn({ isPinned: true });
try {
  await group.leave();
} catch (err) {
  if (!(err instanceof ParleyError)) throw err;
  console.log("not left:", err.reason); // LAST_OWNER: somebody else must own it first
}
await client.stop();
