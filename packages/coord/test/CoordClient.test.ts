import { coordClientSuite } from "@gantry/testkit/suites/CoordClientSuite"
import * as MemoryPeers from "@gantry/testkit/suites/MemoryPeers"

coordClientSuite("memory", MemoryPeers.layer)
