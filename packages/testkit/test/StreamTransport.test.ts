import * as MemoryPeers from "@gantry/testkit/suites/MemoryPeers"
import { streamTransportSuite } from "@gantry/testkit/suites/StreamTransportSuite"

streamTransportSuite("memory", MemoryPeers.layer)
