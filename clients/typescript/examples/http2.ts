// Another transport: in Node, HTTP/2 without TLS to a server in the same network. And a policy of one's own.
import { createConnectTransport } from "@connectrpc/connect-node";
import { ParleyClient, type ReconnectPolicy } from "@parley-im/client";

const patient: ReconnectPolicy = { delayMs: (attempt, error) => (error.reason === "UNREACHABLE" ? 1000 * (attempt + 1) : 200) };
const baseUrl = process.env["PARLEY_URL"] ?? "http://127.0.0.1:8080";
const client = new ParleyClient({
  baseUrl,
  token: () => process.env["ALICE"] ?? "",
  transport: createConnectTransport({ baseUrl, httpVersion: "2" }),
  reconnect: patient,
});
client.start();
console.log("sent as", (await (await client.direct("bob")).send("over HTTP/2").sent).seq);
await client.stop();
process.exit(); // Node's HTTP/2 session stays open otherwise
