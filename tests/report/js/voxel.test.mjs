/* Responses of a voxel from their codes, and the view in the address. */
import assert from "node:assert/strict";
import {test} from "node:test";
import {scripts} from "./scripts.mjs";

const of = {
  ids: ["a", "b", "c"],
  kept: Uint16Array.of(0, 2),
  measured: {low: Float32Array.of(0, -1), step: Float32Array.of(0.5, 1), codes: Uint8Array.of(1, 2, 3, 255)},
  predicted: {low: Float32Array.of(1, 2), step: Float32Array.of(0, 0.25), codes: Uint8Array.of(0, 0, 4, 8)},
  lists: Uint16Array.of(0, 0, 0, 2, 1, 0),
  listed: {measured: Uint8Array.of(0, 0, 0, 255, 9, 3), predicted: Uint8Array.of(0, 0, 0, 8, 1, 4)},
  n: 1,
};

test("responses are those of the voxel and of the images that the page has", () => {
  const {Answers} = scripts("answers.js", {Dom: {}});
  const {measured, predicted} = Answers.points(of, 1);
  assert.deepEqual([...measured], [2, 254]);
  assert.deepEqual([...predicted], [3, 4]);
  assert.deepEqual([...Answers.points(of, 0).measured], [0.5, 1]);
  assert.deepEqual(Answers.listed(of, 1, 0), [{image: 2, measured: 254, predicted: 4}]);
  assert.deepEqual(Answers.listed(of, 1, 1), [{image: 1, measured: 8, predicted: 2.25}]);
});

test("both axes have one range, from the least to the largest response, and some more", () => {
  const {Answers} = scripts("answers.js", {Dom: {}});
  const {low, high} = Answers.range(of, 1);
  assert.ok(low < -1 && low > -20);
  assert.ok(high > 254 && high < 270);
});

function page() {
  const at = [new Int32Array(10).fill(-1), new Int32Array(10).fill(-1)];
  at[1][7] = 0;
  const maps = [{name: "layer_map"}, {name: "score_map"}];
  const START = {azimuth: 28, elevation: 8, zoom: 1, panX: 0, panY: 0, shape: 0};
  const given = {
    Dom: {},
    Data: {maps, runs: [{at, numbers: {r2_test: [0.1], ceiling: [0.5]}}]},
    State: {map: maps[0], pinned: null, threshold: -Infinity, of: "r2_test", frame: null, outlines: true, all: false},
    View: {START, now: {...START, only: null}},
    Colours: {isLearned: ({name}) => name === "layer_map"},
  };
  return {...given, ...scripts("permalink.js", given)};
}

test("a view comes back from its address", () => {
  const {Permalink, State, View, Data} = page();
  assert.equal(Permalink.text(), "");
  Object.assign(State, {map: Data.maps[1], pinned: {side: 1, vertex: 7}, threshold: 0.25, of: "ceiling", all: true});
  Object.assign(View.now, {azimuth: 90.12345, shape: 1, only: 0});
  const told = Permalink.read(`#${Permalink.text()}`);
  assert.deepEqual(told, {
    map: "score_map", voxel: {side: 1, vertex: 7}, view: {...View.START, azimuth: 90.123, shape: 1}, only: 0,
    threshold: 0.25, of: "ceiling", frame: null, outlines: true, all: true,
  });
});

test("of an address, what the page does not have is left out", () => {
  const {Permalink, View} = page();
  assert.equal(Permalink.read("#figure"), null);
  assert.equal(Permalink.read(""), null);
  const told = Permalink.read("#map=none&voxel=rh.6&azimuth=north&of=title&frame=3&threshold=");
  assert.deepEqual(told, {
    map: "layer_map", voxel: null, view: View.START, only: null, threshold: -Infinity, of: "r2_test", frame: 3,
    outlines: true, all: false,
  });
  assert.equal(Permalink.read("#map=score_map&frame=3").frame, null);
  assert.equal(Permalink.read("#voxel=rh.x").voxel, null);
});
