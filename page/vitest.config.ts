import { defineConfig } from "vitest/config";

// Tests of what is drawn say `// @vitest-environment happy-dom` in their first line.
export default defineConfig({
  test: {
    include: ["tests/**/*.test.{ts,tsx}"],
    environment: "node",
    maxWorkers: 2,
    // A busy machine must not fail a test.
    testTimeout: 60_000,
    restoreMocks: true,
  },
});
