// Builds the pages into server/web/dist: node scripts/build.mjs [--check]
//
// With --check it changes nothing and fails if what is there is not what the sources give. The same sources give the same
// bytes everywhere: versions are pinned, and names of files come from what they hold.
import { build } from "esbuild";
import { mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createHash } from "node:crypto";
import { dirname, join, relative } from "node:path";
import { fileURLToPath } from "node:url";
import { gzipSync } from "node:zlib";

const root = fileURLToPath(new URL("..", import.meta.url));
const sdk = join(root, "..", "typescript");
const dist = join(root, "..", "..", "server", "web", "dist");

/** What a page may make a browser download at its first visit, in bytes after gzip. Raise it only with a reason. */
const budgets = { index: 84_000, inspect: 76_000, docs: 16_500 };

/** What the SDK is made of comes from where the SDK has it, so that nothing is there twice. */
const ofTheSdk = {
  name: "of-the-sdk",
  setup: ({ onResolve, resolve }) => onResolve({ filter: /^@connectrpc\// }, ({ path, kind, resolveDir, pluginData }) =>
    pluginData || resolveDir.startsWith(sdk) ? undefined : resolve(path, { kind, resolveDir: join(sdk, "src"), pluginData: true })),
};

const { outputFiles, metafile } = await build({
  absWorkingDir: root,
  entryPoints: { index: "src/chat.tsx", inspect: "src/inspect.tsx", docs: "src/docs.tsx", style: "src/style.css" },
  outdir: "assets",
  entryNames: "[name]-[hash]",
  chunkNames: "shared-[hash]",
  bundle: true,
  splitting: true,
  minify: true,
  format: "esm",
  target: ["es2022", "safari17.5"],
  jsx: "automatic",
  jsxImportSource: "preact",
  legalComments: "none",
  charset: "utf8",
  alias: { "@parley-im/client": join(sdk, "src", "index.ts") },
  plugins: [ofTheSdk],
  metafile: true,
  write: false,
});

const files = new Map();
for (const { path, contents } of outputFiles) files.set(`assets/${relative(join(root, "assets"), path)}`, Buffer.from(contents));

const outputOf = (name) => Object.keys(metafile.outputs).find((o) => new RegExp(`^assets/${name}-[^/]*$`).test(o));
const style = outputOf("style");
const iconBytes = readFileSync(join(root, "src", "icon.svg"));
const icon = `assets/icon-${createHash("sha256").update(iconBytes).digest("hex").slice(0, 8)}.svg`;
files.set(icon, iconBytes);

let failed = false;
for (const [name, budget] of Object.entries(budgets)) {
  const script = outputOf(name);
  const shared = importsOf(script);
  const links = [
    `<link rel="icon" type="image/svg+xml" href="/${icon}">`,
    `<link rel="stylesheet" href="/${style}">`,
    ...shared.map((path) => `<link rel="modulepreload" href="/${path}">`),
    `<script type="module" src="/${script}"></script>`,
  ].join("\n");
  const html = readFileSync(join(root, "src", `${name}.html`), "utf8").replace("<!-- files -->", links);
  files.set(`${name}.html`, Buffer.from(html));
  const bytes = [script, style, icon, ...shared].reduce((n, path) => n + gzipSync(files.get(path), { level: 9 }).length, 0);
  console.log(`${name}: ${bytes} of ${budget} bytes`);
  if (bytes > budget) failed = true;
}

const there = readdirSync(dist, { recursive: true, withFileTypes: true }).filter((e) => e.isFile())
  .map((e) => relative(dist, join(e.parentPath ?? e.path, e.name)));
if (process.argv.includes("--check")) {
  const stale = new Set([...there, ...files.keys()].filter((path) => {
    if (!files.has(path) || !there.includes(path)) return true;
    return !readFileSync(join(dist, path)).equals(files.get(path));
  }));
  for (const path of stale) console.error(`server/web/dist/${path} is not what the sources give`);
  if (stale.size > 0) console.error("run 'make web' and commit the result");
  failed ||= stale.size > 0;
} else {
  for (const path of there) if (!files.has(path)) rmSync(join(dist, path));
  for (const [path, contents] of files) {
    mkdirSync(dirname(join(dist, path)), { recursive: true });
    writeFileSync(join(dist, path), contents);
  }
}
if (failed) process.exitCode = 1;

/** The chunks that a script loads, and those that they load. */
function importsOf(path, seen = new Set()) {
  for (const { path: next, kind } of metafile.outputs[path].imports) {
    if (kind !== "import-statement" || seen.has(next)) continue;
    seen.add(next);
    importsOf(next, seen);
  }
  return [...seen];
}
