/**
 * Flags of the commands that look at containerd.
 */
import { Flag } from "effect/cli"
import * as RuntimeConfig from "./RuntimeConfig.ts"

/** Where containerd's own configuration is. */
export const config = Flag.String("containerd-config").pipe(
  Flag.withDescription("containerd's own configuration"),
  Flag.withMetavar("file"),
  Flag.withDefault(RuntimeConfig.defaultPath)
)

/** Where hosts files are. */
export const configPath = Flag.String("config-path").pipe(
  Flag.withDescription(
    `The directory of the hosts files; the first of config_path in containerd's configuration, else ${RuntimeConfig.defaultConfigPath}`
  ),
  Flag.withMetavar("directory"),
  Flag.optional
)
