"use strict";
/* The numbers of the page, unpacked from its data element.
   Shape letters: V voxels of a run that are drawn, L layers, N vertices of a hemisphere. */

const Data = (() => {
  const KINDS = {u1: Uint8Array, u2: Uint16Array, u4: Uint32Array, i2: Int16Array, f4: Float32Array};
  const N = 10242;

  /** @param {{kind: keyof typeof KINDS, data: string}} packed @returns {Numbers} */
  function array(packed) {
    const text = atob(packed.data);
    const bytes = new Uint8Array(text.length);
    for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i);
    return new KINDS[packed.kind](bytes.buffer);
  }

  /** @template A, B @param {Record<string, A>} object @param {(value: A) => B} change @returns {Record<string, B>} */
  function each(object, change) {
    return Object.fromEntries(Object.entries(object).map(([key, value]) => [key, change(value)]));
  }

  const page = JSON.parse(Dom.get("data").textContent ?? "");

  /** @type {Side[]} */
  const sides = page.cortex.sides.map((side) => ({
    hemi: side.hemi,
    inflated: array(side.inflated),
    flat: array(side.flat),
    sheet: array(side.sheet),
    grey: array(side.grey),
  }));

  /** @returns {Film | null} */
  function openFilm(film) {
    if (!film) return null;
    const parts = ["drawn", "layer", "confidence", "place", "scale"];
    return {...film, ...Object.fromEntries(parts.map((name) => [name, array(film[name])]))};
  }

  /** @returns {Coded} */
  const coded = (told) => ({low: array(told.low), step: array(told.step), codes: array(told.codes)});

  /** @type {Coded[]} */
  const measured = page.measured.map(coded);

  /** @returns {Answered | null} */
  function openAnswers(told) {
    if (!told) return null;
    const parts = ["kept", "lists", "r", "low", "high", "picture"];
    return {
      ...told,
      ...Object.fromEntries(parts.map((name) => [name, array(told[name])])),
      n: told.lists.shape[2],
      measured: measured[told.measured],
      predicted: coded(told.predicted),
      listed: each(told.listed, array),
    };
  }

  /** @type {Run[]} */
  const runs = page.runs.map((run, k) => {
    const side = array(run.voxels.side), vertex = array(run.voxels.vertex);
    const at = [0, 1].map(() => new Int32Array(N).fill(-1));
    for (let i = 0; i < side.length; i++) at[side[i]][vertex[i]] = i;
    return {
      ...run,
      count: side.length,
      side,
      vertex,
      layer: array(run.voxels.layer),
      evident: array(run.voxels.evident),
      numbers: each(run.voxels.numbers, array),
      words: each(run.voxels.words, (word) => ({names: word.names, code: array(word.code)})),
      similar: {row: array(run.similar.row), cosine: array(run.similar.cosine), n: run.similar.row.shape[1]},
      film: openFilm(run.film),
      answers: openAnswers(page.answers[k]),
      at,  // row of the voxel at a vertex of a side, -1 for none
    };
  });

  /** @type {CortexMap[]} */
  const maps = page.maps.map((map) => ({
    ...map,
    lookup: Array.isArray(map.lookup) ? map.lookup.map(array) : array(map.lookup),
  }));

  const {noEvidence, thumbnails} = page;
  return {N, sides, faces: array(page.cortex.faces), runs, maps, noEvidence, thumbnails};
})();
