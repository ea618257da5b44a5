/**
 * How fast something grows.
 */

/** The slope of the straight line that fits points best (least squares). */
export const slopeOf = (points: ReadonlyArray<{ readonly x: number; readonly y: number }>): number => {
  const mean = (pick: (point: { readonly x: number; readonly y: number }) => number) =>
    points.reduce((sum, point) => sum + pick(point), 0) / points.length
  const meanX = mean(({ x }) => x)
  const meanY = mean(({ y }) => y)
  return mean(({ x, y }) => (x - meanX) * (y - meanY)) / mean(({ x }) => (x - meanX) ** 2)
}
