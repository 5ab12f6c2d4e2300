import { defineConfig } from "vitest/config";

// unit: in memory. browser: Chromium and the real server.
export default defineConfig({
  test: {
    projects: [
      { test: { name: "unit", include: ["test/*.test.ts"], testTimeout: 240_000 } },
      { test: { name: "browser", include: ["test/browser/*.test.ts"], testTimeout: 300_000, hookTimeout: 120_000, pool: "threads" } },
    ],
  },
});
