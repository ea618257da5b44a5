/**
 * The source of members that the configuration asks for (agent, section 5).
 */
import type * as FileSystem from "effect/FileSystem"
import * as Option from "effect/Option"
import type * as Path from "effect/Path"
import { sourcesOf } from "../config/Rules.ts"
import type { Settings } from "../config/Settings.ts"
import * as DnsSource from "./DnsSource.ts"
import * as FileSource from "./FileSource.ts"
import * as Listed from "./Listed.ts"
import type { MemberSource } from "./MemberSource.ts"
import type { SelfDocument } from "./SelfDocument.ts"
import * as StaticSource from "./StaticSource.ts"

/** The source whose key is set, or that was chosen of several; none if there is none. */
export const of = (settings: Settings): Option.Option<MemberSource<FileSystem.FileSystem | Path.Path>> => {
  const chosen = settings.members_source === "auto" ? sourcesOf(settings)[0] : settings.members_source
  switch (chosen) {
    case "file":
      return Option.map(settings.members_file, FileSource.make)
    case "dns":
      return Option.map(settings.members_dns, (name) => DnsSource.make(name))
    case "static":
      return Option.some(StaticSource.make(settings.members_static.map(Listed.fromEntry)))
    default:
      return Option.none()
  }
}

/** The source of {@link of}. Without any this agent is the only member. */
export const make = (
  settings: Settings,
  self: Pick<SelfDocument, "node_id" | "peer_id" | "addresses" | "transfer_addr">
): MemberSource<FileSystem.FileSystem | Path.Path> =>
  Option.getOrElse(of(settings), () =>
    StaticSource.make([
      {
        transferAddress: self.transfer_addr,
        nodeId: Option.some(self.node_id),
        peerId: Option.some(self.peer_id),
        addresses: self.addresses,
        zone: settings.zone
      }
    ])
  )
