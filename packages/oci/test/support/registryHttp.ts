import { NodeFileSystem } from "@effect/platform-node"
import { ConfigProvider, Layer } from "effect"
import * as RegistryHttp from "../../src/RegistryHttp.ts"

/** Real connections, in an environment of the test's own. */
export const layerHttp = (env: Record<string, string> = {}, options?: RegistryHttp.Options) =>
  RegistryHttp.layer(options).pipe(
    Layer.provide([NodeFileSystem.layer, ConfigProvider.layer(ConfigProvider.fromEnv({ env }))])
  )
