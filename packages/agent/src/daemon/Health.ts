/**
 * Health and metrics, for probes and Prometheus (agent, sections 1 and 8).
 */
import * as Http from "node:http"
import * as NodeHttpServer from "@effect/platform-node/NodeHttpServer"
import * as Effect from "effect/Effect"
import * as HttpRouter from "effect/http/HttpRouter"
import * as HttpServerResponse from "effect/http/HttpServerResponse"
import * as Layer from "effect/Layer"
import * as PrometheusMetrics from "effect/observability/PrometheusMetrics"
import { ListenError } from "./ListenError.ts"
import { Readiness } from "./Readiness.ts"

const probe = (path: `/${string}`, isWell: (phase: string) => boolean) =>
  HttpRouter.add(
    "GET",
    path,
    Effect.gen(function* () {
      const { phase } = yield* Readiness
      const now = yield* phase
      return HttpServerResponse.text(`${isWell(now) ? "ok" : now}\n`, { status: isWell(now) ? 200 : 503 })
    })
  )

const routes = Layer.mergeAll(
  probe("/livez", () => true),
  probe("/healthz", () => true),
  probe("/startupz", (phase) => phase !== "starting"),
  probe("/readyz", (phase) => phase === "ready"),
  PrometheusMetrics.layerHttp()
)

/** Where to listen. */
export interface Options {
  readonly host: string
  readonly port: number
}

/** Answers probes, and Prometheus at `/metrics`. */
export const layer = ({ host, port }: Options): Layer.Layer<never, ListenError, Readiness> =>
  HttpRouter.serve(routes, { disableListenLog: true, disableLogger: true }).pipe(
    Layer.provide(NodeHttpServer.layer(() => Http.createServer(), { host, port })),
    Layer.catchTag("ServeError", ({ cause }) =>
      Layer.effectDiscard(new ListenError({ setting: "metrics_listen", address: `${host}:${port}`, cause }))
    )
  )
