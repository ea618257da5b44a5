import { defineConfig } from "vitest/config"

const conditions = ["@gantry/source", "node", "import", "module", "default"]

export default defineConfig({
  resolve: { conditions },
  ssr: { resolve: { conditions } },
  test: {
    include: ["packages/*/test/**/*.test.ts"],
    // Nothing waits for real time; a busy machine may still need some.
    testTimeout: 30_000
  }
})
