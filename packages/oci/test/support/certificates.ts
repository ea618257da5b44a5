import { readFileSync } from "node:fs"
import { fileURLToPath } from "node:url"

/** The path of a certificate or key of the tests. */
export const certificatePath = (name: "authority" | "client" | "client.key" | "server" | "server.key"): string =>
  fileURLToPath(new URL(`./certificates/${name}.pem`, import.meta.url))

const read = (name: Parameters<typeof certificatePath>[0]) => readFileSync(certificatePath(name), "utf8")

/** What a server shows as `*.example.com`, `localhost` and 127.0.0.1, by the word of the tests' authority. */
export const serverTls = { key: read("server.key"), cert: read("server") }

/** The same of a server that asks its clients who they are. */
export const askingTls = { ...serverTls, ca: read("authority"), requestCert: true, rejectUnauthorized: false }
