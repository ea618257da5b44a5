/**
 * A whole node, for whoever wants to run one in a program of their own.
 */
export * as ImagePull from "./ImagePull.ts"
export * as Node from "./Node.ts"
