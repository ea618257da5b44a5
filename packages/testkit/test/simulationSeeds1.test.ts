import { testSeeds } from "./simulationSeeds.ts"

testSeeds(1, 100)
