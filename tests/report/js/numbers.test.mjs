/* From packed numbers to words, colours, ticks and the order of tables. */
import assert from "node:assert/strict";
import {test} from "node:test";
import {scripts} from "./scripts.mjs";

const packed = (kind, values, shape = [values.length]) => (
  {kind, shape, data: Buffer.from(values.buffer).toString("base64")});

const page = {
  noEvidence: [1, 2, 3],
  answers: [null],
  measured: [],
  thumbnails: [],
  cortex: {faces: packed("u2", Uint16Array.of(0, 1, 2)), sides: []},
  maps: [
    {name: "score_map", kind: "ramp", columns: ["r2_test"], low: 0, high: 1, lookup: packed("u1", new Uint8Array(768))},
    {name: "roi", kind: "class", columns: ["roi"], names: ["V2"], lookup: packed("u1", Uint8Array.of(7, 8, 9))},
  ],
  runs: [{
    layers: ["a"],
    film: null,
    similar: {row: packed("u2", Uint16Array.of(1, 0), [2, 1]), cosine: packed("i2", Int16Array.of(-5, 5), [2, 1])},
    voxels: {
      side: packed("u1", Uint8Array.of(0, 1)),
      vertex: packed("u2", Uint16Array.of(5, 10241)),
      layer: packed("u2", Uint16Array.of(0, 1)),
      evident: packed("u1", Uint8Array.of(1, 0)),
      numbers: {r2_test: packed("f4", Float32Array.of(0.25, NaN))},
      words: {roi: {names: ["V1", "V2"], code: packed("u2", Uint16Array.of(0, 1))}},
    },
  }],
};
const document = {getElementById: () => ({textContent: JSON.stringify(page)}), querySelectorAll: () => []};
const {Dom, Data, State, Colours} = scripts(
  ["dom.js", "data.js", "state.js", "colours.js"], {document});

test("arrays are unpacked with their kinds, and every voxel is found at its vertex", () => {
  const [run] = Data.runs;
  assert.deepEqual([...run.vertex], [5, 10241]);
  assert.deepEqual([...run.similar.cosine], [-5, 5]);
  assert.deepEqual([run.at[0][5], run.at[1][10241], run.at[0][10241]], [0, 1, -1]);
  assert.equal(run.similar.n, 1);
});

test("numbers are read with a true minus, and one that is missing is said to be", () => {
  assert.equal(Dom.words(-0.1234), "−0.123");
  assert.equal(Dom.words(NaN), "unknown");
  assert.equal(Dom.exact(Math.fround(0.1)), "0.1");
  assert.equal(Dom.exact(NaN), "–");
});

test("a voxel without a number has no colour, and one beyond the range has that of its end", () => {
  const [score, roi] = Data.maps, [run] = Data.runs, to = [];
  score.lookup.set([1, 2, 3], 765);
  const paint = Colours.painter(score, {...run, numbers: {r2_test: [NaN, 9]}}, 0);
  assert.equal(paint(0, to, 0), false);
  assert.equal(paint(1, to, 0), true);
  assert.deepEqual(to, [1, 2, 3]);
  assert.equal(Colours.painter(roi, run, 0)(0, to, 0), false);
  assert.equal(Colours.painter(roi, run, 0)(1, to, 0), true);
  assert.deepEqual(to, [7, 8, 9]);
});

test("a threshold leaves out voxels without a score", () => {
  const [run] = Data.runs, passing = () => [0, 1].map((row) => State.passes(run, row));
  assert.deepEqual(passing(), [true, true]);
  State.threshold = -1;
  assert.deepEqual(passing(), [true, false]);
  State.of = "ceiling";
  assert.deepEqual(passing(), [false, false]);
  Object.assign(State, {threshold: -Infinity, of: "r2_test"});
});

test("a voxel without evidence is veiled until all are asked for", () => {
  const [run] = Data.runs, veiled = () => [0, 1].map((row) => State.isVeiled(run, row)), to = [];
  assert.deepEqual(veiled(), [false, true]);
  State.all = true;
  assert.deepEqual(veiled(), [false, false]);
  assert.equal(Colours.veil(to, 0), true);
  assert.deepEqual(to, [1, 2, 3]);
});
