// Builds the contract's runner: node scripts/contract.mjs OUTFILE. Node 20 reads no TypeScript, so it is bundled.
import { build } from "esbuild";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

const root = fileURLToPath(new URL("..", import.meta.url));
await build({
  entryPoints: [join(root, "test", "contract", "runner.ts")],
  outfile: process.argv[2],
  bundle: true,
  platform: "node",
  format: "esm",
  target: "node20",
});
