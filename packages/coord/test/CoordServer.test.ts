import { coordServerSuite } from "@gantry/testkit/suites/CoordServerSuite"
import * as MemoryPeers from "@gantry/testkit/suites/MemoryPeers"

coordServerSuite("memory", MemoryPeers.layer)
