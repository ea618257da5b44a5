/**
 * What the kernel has on record of a process, whatever it is written in. Only
 * Linux keeps it where this looks.
 */
import * as Effect from "effect/Effect"
import * as FileSystem from "effect/FileSystem"

/** The kernel counts in hundredths of a second, on every architecture. */
const millisPerTick = 10

/** Where user and system time are in `stat`, behind the name, which may hold spaces. */
const [userField, systemField] = [11, 12]

/** Whether there are records. */
export const isKept = FileSystem.FileSystem.use((files) => Effect.orDie(files.exists("/proc/self/stat")))

const read = (pid: number, file: string) =>
  FileSystem.FileSystem.use((files) => Effect.orDie(files.readFileString(`/proc/${pid}/${file}`)))

/** Processor time of all threads since the process began, in milliseconds. */
export const cpuMillis = (pid: number) =>
  Effect.map(read(pid, "stat"), (stat) => {
    const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ")
    return (Number(fields[userField]) + Number(fields[systemField])) * millisPerTick
  })

/** Memory that the process has of the machine now, in MiB. */
export const residentMebibytes = (pid: number) =>
  Effect.map(read(pid, "status"), (status) => Number(/^VmRSS:\s+(\d+) kB$/m.exec(status)?.[1]) / 1_024)
