import { streamTransportSuite } from "@gantry/testkit/suites/StreamTransportSuite"
import * as TcpPeers from "./TcpPeers.ts"

streamTransportSuite("TCP", TcpPeers.layerWired)
