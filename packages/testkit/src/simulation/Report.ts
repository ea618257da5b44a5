/**
 * One simulation as a page: a lane per node, with requests, messages, pulls,
 * transfers and faults along the time.
 */
import type { Result } from "./Simulation.ts"
import * as Timeline from "./Timeline.ts"

const escape = (text: string) => text.replace(/[&<>"]/g, (found) => `&#${found.charCodeAt(0)};`)

/** A page that needs nothing else. */
export const render = (result: Result): string => `<!doctype html><pre>${escape(Timeline.format(result.events))}</pre>`
