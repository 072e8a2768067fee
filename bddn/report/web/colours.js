"use strict";
/* From a voxel's numbers to its colour, by the tables that the page brings along. */

const Colours = (() => {
  const CONFIDENCES = 64, PLACES = 65, RAMP = 256;

  const clamp = (x, low, high) => Math.min(Math.max(x, low), high);

  /** A function (row, to, at) that writes the colour of a run's voxel, and is false where the voxel has none.
      @param {CortexMap} map @param {Run} run @param {number} k @returns {Paint} */
  function painter(map, run, k) {
    if (map.kind === "layer") {
      const sure = run.numbers.confidence;
      return (row, to, at) => layer(map, k, run, run.layer[row], sure[row], to, at);
    }
    const columns = map.columns.map((name) => run.numbers[name]);
    if (map.kind === "place") {
      const [x, y] = columns;
      return (row, to, at) => place(map, x[row], y[row], to, at);
    }
    if (map.kind === "class") return classes(map, run);
    const values = columns[0];
    return values ? (row, to, at) => ramp(map, values[row], to, at) : () => false;
  }

  function copy(lookup, from, to, at) {
    to[at] = lookup[3 * from];
    to[at + 1] = lookup[3 * from + 1];
    to[at + 2] = lookup[3 * from + 2];
    return true;
  }

  function layer(map, k, run, index, sure, to, at) {
    if (index >= run.layers.length || Number.isNaN(sure)) return false;
    const step = Math.round(clamp(sure / map.top, 0, 1) * (CONFIDENCES - 1));
    return copy(map.lookup[k], index * CONFIDENCES + step, to, at);
  }

  function place(map, x, y, to, at) {
    if (Number.isNaN(x) || Number.isNaN(y)) return false;
    return copy(map.lookup, placeIndex(map, x, y), to, at);
  }

  /** The entry of the lookup for a place; beyond its reach, that of its rim.
      @param {CortexMap} map @param {number} x @param {number} y */
  function placeIndex(map, x, y) {
    const [column, row] = [x, y].map((v) => Math.round((clamp(v / map.reach, -1, 1) + 1) / 2 * (PLACES - 1)));
    return row * PLACES + column;
  }

  function ramp(map, value, to, at) {
    if (Number.isNaN(value)) return false;
    const share = (value - map.low) / (map.high - map.low);
    return copy(map.lookup, clamp(Math.floor(share * RAMP), 0, RAMP - 1), to, at);
  }

  function classes(map, run) {
    const word = run.words[map.columns[0]];
    if (!word) return () => false;
    const place = word.names.map((name) => map.names.indexOf(name));
    return (row, to, at) => place[word.code[row]] >= 0 && copy(map.lookup, place[word.code[row]], to, at);
  }

  /** The same for a frame of a run's film; voxels that are not in it keep the colour of the fitted map.
      @param {CortexMap} map @param {Run & {film: Film}} run @param {number} k @param {number} frame @returns {Paint} */
  function framePainter(map, run, k, frame) {
    const film = run.film, n = film.drawn.length, final = painter(map, run, k);
    const atFilm = new Int32Array(run.count).fill(-1);
    film.drawn.forEach((row, i) => { atFilm[row] = i; });
    return (row, to, at) => {
      if (atFilm[row] < 0) return final(row, to, at);
      const i = frame * n + atFilm[row];
      if (map.kind === "layer") return layer(map, k, run, film.layer[i], film.confidence[i] / 255, to, at);
      if (map.kind === "place") {
        return place(map, film.place[2 * i] / 127.5 - 1, film.place[2 * i + 1] / 127.5 - 1, to, at);
      }
      return ramp(map, film.scale[i] / 255, to, at);
    };
  }

  const LEARNED = new Set(["layer_map", "place_map", "scale_map"]);

  /** Write the colour of a voxel without evidence. @param {Numbers | number[]} to @param {number} at */
  const veil = (to, at) => copy(Data.noEvidence, 0, to, at);

  const css = (rgb, at = 0) => `rgb(${rgb[at]},${rgb[at + 1]},${rgb[at + 2]})`;

  /** The colour of a layer at full confidence. @param {number} k @param {number} index */
  function ofLayer(k, index) {
    const lookups = Data.maps.find((map) => map.kind === "layer")?.lookup;
    return css(lookups[k], 3 * (index * CONFIDENCES + CONFIDENCES - 1));
  }

  /** @param {CortexMap} map */
  const isLearned = (map) => LEARNED.has(map.name);

  return {painter, framePainter, placeIndex, isLearned, ofLayer, veil, css, CONFIDENCES, RAMP};
})();
