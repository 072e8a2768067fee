/* Which voxel is the best of its run and of its region. */
import assert from "node:assert/strict";
import {test} from "node:test";
import {scripts} from "./scripts.mjs";

const {Best} = scripts("best.js");

function run(scores, regions) {
  const names = [...new Set(regions)];
  return {
    count: scores.length,
    side: scores.map(() => 1),
    vertex: scores.map((_, i) => 10 + i),
    numbers: {r2_test: Float32Array.from(scores)},
    words: {roi: {names, code: regions.map((name) => names.indexOf(name))}},
  };
}

const vertices = (found) => Object.fromEntries([...found].map(([name, {vertex}]) => [name, vertex]));

test("a voxel without a score is not the best where another has one", () => {
  const regions = ["V1", "V1", "V1", "V2", "V2"], of = run([NaN, -0.2, 0.1, 0.3, NaN], regions);
  assert.deepEqual(vertices(Best.ofRegions([of])), {V1: 12, V2: 13});
  assert.equal(Best.of(of).vertex, 13);
  assert.equal(Best.of(run([NaN, -0.5], ["V1", "V1"])).vertex, 11);
});

test("where no voxel has a score, the first one stands for its region", () => {
  assert.deepEqual(vertices(Best.ofRegions([run([NaN, NaN], ["V1", "V1"])])), {V1: 10});
});

test("of several runs and of equal scores the first one is taken", () => {
  const first = run([0.1, 0.1], ["V1", "V1"]), second = run([0.1, 0.2], ["V1", "V2"]);
  assert.deepEqual(vertices(Best.ofRegions([first, second])), {V1: 10, V2: 11});
});

test("voxels without a region, and runs without regions or voxels, give nothing", () => {
  assert.deepEqual(vertices(Best.ofRegions([run([0.5], [""])])), {});
  assert.deepEqual(vertices(Best.ofRegions([{...run([0.5], ["V1"]), words: {}}])), {});
  assert.equal(Best.of(run([], [])), null);
});
