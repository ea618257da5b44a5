import { fileURLToPath } from "node:url"
import { defineConfig } from "vitest/config"
import workspace from "../../../vitest.workspace.ts"

export default defineConfig({
  ...workspace,
  root: fileURLToPath(new URL("..", import.meta.url)),
  test: {
    include: ["test/*.interop.ts"],
    globalSetup: "test/build.ts",
    // Processes start and keys are made; how long that takes says nothing.
    testTimeout: 120_000
  }
})
