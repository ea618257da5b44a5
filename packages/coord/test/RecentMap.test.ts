import { assert, it } from "@effect/vitest"
import { RecentMap } from "@gantry/coord/RecentMap"

it("forgets what was set longest ago, and counts a key that is set again as new", () => {
  const map = new RecentMap<string, number>(2)
  map.set("a", 1)
  map.set("b", 2)
  map.set("a", 3)
  map.set("c", 4)
  assert.deepStrictEqual([map.get("a"), map.get("b"), map.get("c")], [3, undefined, 4])
  map.delete("a")
  map.set("d", 5)
  assert.deepStrictEqual([map.get("a"), map.get("c"), map.get("d")], [undefined, 4, 5])
})
