// Works TypeScript devices for the contract between the clients: calls come as lines of JSON, answers go out as such.
// clients/contract/README.md is the description of both.
import { createInterface } from "node:readline";
import { ParleyError } from "../../src/index.js";
import { Worked, type Args } from "./worked.js";

interface Call {
  id: number;
  device: string;
  do: string;
  with?: Args;
}

const devices = new Map<string, Worked>();

function answer(id: number, how: "ok" | "refused" | "failed", what: unknown): void {
  process.stdout.write(`${JSON.stringify({ id, [how]: what ?? null })}\n`);
}

async function work(call: Call): Promise<void> {
  try {
    let device = devices.get(call.device);
    if (!device) devices.set(call.device, (device = new Worked()));
    answer(call.id, "ok", await device.work(call.do, call.with ?? {}));
  } catch (err) {
    if (err instanceof ParleyError) answer(call.id, "refused", { reason: err.reason, message: err.message });
    else answer(call.id, "failed", err instanceof Error ? err.stack : String(err));
  }
}

for await (const line of createInterface({ input: process.stdin })) void work(JSON.parse(line) as Call);
process.exit(0); // clients that were left open have sockets
