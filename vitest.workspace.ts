import { defineConfig } from "vitest/config"

const conditions = ["@gantry/source", "node", "import", "module", "default"]

export default defineConfig({
  resolve: { conditions },
  ssr: { resolve: { conditions } },
  test: {
    include: ["packages/*/test/**/*.test.ts"]
  }
})
