// Checks what a page downloads for the SDK, dependencies included, minified and compressed: node scripts/size.mjs
import { build } from "esbuild";
import { gzipSync } from "node:zlib";

/** The budgets, in bytes after gzip. Raise them only with a reason in the change that does. */
const budgets = [
  { what: "everything", budget: 54_200, code: `export * from "./dist/index.js";` },
  { what: "without IndexedDbStore", budget: 53_500, code: `export { ParleyClient } from "./dist/index.js";` },
  { what: "ParleyError alone (tree-shaken)", budget: 1_000, code: `export { ParleyError } from "./dist/index.js";` },
];

for (const { what, budget, code } of budgets) {
  const { outputFiles } = await build({
    stdin: { contents: code, resolveDir: new URL("..", import.meta.url).pathname },
    bundle: true, minify: true, format: "esm", target: "es2022", platform: "browser", write: false,
  });
  const bytes = gzipSync(outputFiles[0].contents, { level: 9 }).length;
  console.log(`${what}: ${bytes} of ${budget} bytes`);
  if (bytes > budget) process.exitCode = 1;
}
