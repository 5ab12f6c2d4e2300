import { defineConfig } from "vitest/config";

// unit: in memory. node and browser: the same scenarios against the real server, from Node and from Chromium.
const project = (name: string, include: string[], testTimeout: number, hookTimeout = 120_000) => ({
  test: { name, include, testTimeout, hookTimeout, pool: "threads" as const },
});

export default defineConfig({
  test: {
    projects: [
      project("unit", ["test/*.test.ts"], 240_000),
      project("node", ["test/real/node.test.ts", "test/real/examples.test.ts"], 240_000, 120_000),
      project("browser", ["test/real/browser.test.ts"], 240_000, 120_000),
    ],
  },
});
