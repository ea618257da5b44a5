import { testSeeds } from "./simulationSeeds.ts"

testSeeds(201, 300)
