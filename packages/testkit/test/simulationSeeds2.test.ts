import { testSeeds } from "./simulationSeeds.ts"

testSeeds(101, 200)
