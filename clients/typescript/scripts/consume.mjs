// Checks the package as a project gets it: packed, put into an empty project, imported, required, and type-checked both
// ways: node scripts/consume.mjs, after a build.
import { execFileSync } from "node:child_process";
import { mkdirSync, mkdtempSync, readdirSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

const root = fileURLToPath(new URL("..", import.meta.url));
const dir = mkdtempSync(join(tmpdir(), "parley-consume-"));
process.on("exit", () => rmSync(dir, { recursive: true, force: true }));
const run = (command, ...args) => execFileSync(command, args, { cwd: dir, encoding: "utf8", stdio: ["ignore", "pipe", "inherit"] });

const home = join(dir, "node_modules", "@parley-im", "client");
mkdirSync(home, { recursive: true });
const [packed] = JSON.parse(run("npm", "pack", root, "--ignore-scripts", "--json"));
run("tar", "-xzf", packed.filename, "-C", home, "--strip-components", "1");
const inside = packed.files.map(({ path }) => path).filter((path) => !path.startsWith("dist/"));
if (inside.sort().join() !== "README.md,package.json") throw new Error(`packed besides dist: ${inside}`);
// Of its own packages it may see those that it names as dependencies, and no others.
for (const scope of ["@bufbuild", "@connectrpc"]) {
  mkdirSync(join(dir, "node_modules", scope));
  for (const name of readdirSync(join(root, "node_modules", scope))) {
    if (["protobuf", "connect", "connect-web"].includes(name)) symlinkSync(join(root, "node_modules", scope, name), join(dir, "node_modules", scope, name));
  }
}

const use = `
  const client = new ParleyClient({ baseUrl: "http://127.0.0.1:9", token: () => "none" });
  if (client.connection.value.state !== "offline") throw new Error("not offline");
  if (!(new ParleyError("STOPPED", "so") instanceof Error)) throw new Error("no error");`;
writeFileSync(join(dir, "package.json"), "{}");
writeFileSync(join(dir, "esm.mts"), `import { ParleyClient, ParleyError, type Message } from "@parley-im/client";
${use}
export const bodyOf = (m: Message): string => (m.content?.kind === "text" ? m.content.body : "");\n`);
writeFileSync(join(dir, "cjs.cts"), `import parley = require("@parley-im/client");
const { ParleyClient, ParleyError } = parley;
${use}
export const seqOf = (m: parley.Message): number => m.seq;\n`);
run(join(root, "node_modules", ".bin", "tsc"), "--module", "nodenext", "--target", "es2022", "--lib", "es2023,dom", "--strict", "esm.mts", "cjs.cts");
run(process.execPath, "esm.mjs");
run(process.execPath, "cjs.cjs");
console.log("import and require: both run, and have types");
