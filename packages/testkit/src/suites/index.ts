/**
 * Behaviour suites as functions of a layer, for whoever writes a transport of
 * their own: what ours pass, theirs should.
 */
export * as CoordClientSuite from "./CoordClientSuite.ts"
export * as CoordServerSuite from "./CoordServerSuite.ts"
export * as StreamTransportSuite from "./StreamTransportSuite.ts"
