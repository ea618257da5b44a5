import { coordClientSuite } from "@gantry/testkit/suites/CoordClientSuite"
import { coordServerSuite } from "@gantry/testkit/suites/CoordServerSuite"
import * as TcpPeers from "./TcpPeers.ts"

coordServerSuite("TCP", TcpPeers.layer)
coordClientSuite("TCP", TcpPeers.layerWired)
