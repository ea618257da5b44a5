/**
 * The `host:port` at which a node says that its blobs are: what it may publish,
 * and what its peers may believe.
 */
import * as Host from "effect/net/Host"
import * as NetAddress from "effect/net/NetAddress"
import * as Option from "effect/Option"
import * as Result from "effect/Result"

/** Why nobody else can connect to an address. */
const flawOf = ({ host, port }: Host.HostPort): Option.Option<string> => {
  if (port === 0) return Option.some("its port is 0")
  if (NetAddress.isScopedIpv6Literal(host)) return Option.some("its zone means something on one machine only")
  if (!NetAddress.isIpAddress(host)) return Option.none()
  const address = NetAddress.toCanonical(host)
  if (NetAddress.isUnspecified(address)) return Option.some("it stands for all interfaces of a machine and names none")
  if (NetAddress.isMulticast(address)) return Option.some("it names a group of machines")
  return Option.none()
}

const check = (address: Host.HostPort): Result.Result<string, string> =>
  Option.match(flawOf(address), {
    onNone: () => Result.succeed(Host.formatHostPort(address)),
    onSome: Result.fail
  })

/** The `host:port` that a member publishes, or why it is of no use. */
export const parse = (text: string): Result.Result<string, string> =>
  Result.flatMap(
    Result.mapError(Host.hostPortFromString(text), ({ message }) => message),
    check
  )

/** What somebody sets as the address to publish: `host:port`, or a host, which takes the port that is bound. */
export const announced = (text: string, boundPort: number): Result.Result<string, string> =>
  Host.hostFromString(text).pipe(
    Result.orElse(() => Host.hostFromString(/^\[(.*)\]$/.exec(text)?.[1] ?? "")),
    Result.flatMap((host) => Host.hostPort(host, boundPort)),
    Result.orElse(() => Host.hostPortFromString(text)),
    Result.mapError(({ message }) => message),
    Result.flatMap(check)
  )

/** The parts of `os.networkInterfaces()` that matter here. */
export type Interfaces = Readonly<
  Record<string, ReadonlyArray<{ readonly address: string; readonly internal: boolean }> | undefined>
>

/**
 * The address to publish for what is bound: itself, or, where that is all
 * interfaces, the address of one that others can reach, IPv4 before IPv6.
 */
export const published = (bound: NetAddress.InetAddress, interfaces: Interfaces): Result.Result<string, string> => {
  if (!NetAddress.isUnspecified(bound.address)) return Result.succeed(NetAddress.formatInet(bound))
  const addresses = Object.values(interfaces)
    .flatMap((entries = []) => entries.filter(({ internal }) => !internal))
    .flatMap(({ address }) => Option.toArray(Result.getSuccess(NetAddress.ipFromString(address))))
    .filter((address) => !NetAddress.isLinkLocal(address))
  const best =
    addresses.find(NetAddress.isIpv4Address) ?? (NetAddress.isInetAddressV6(bound) ? addresses[0] : undefined)
  if (best === undefined)
    return Result.fail("it is bound to all interfaces, and none of them has an address for others")
  return Result.succeed(NetAddress.formatInet(NetAddress.inetAddressUnsafe(best, bound.port)))
}
