/**
 * The program `gantry`, for whoever wants to run a node in a program of their own.
 */
export * as ImagePull from "./ImagePull.ts"
export * as Node from "./Node.ts"
