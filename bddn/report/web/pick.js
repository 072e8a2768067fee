"use strict";
/* Which vertex is where on the screen: under the pointer, in sight, or next in a direction. */

const Pick = (() => {
  const CELL = 6, BEHIND_MM = 18, EDGE_ON = 0.18;
  const shown = (s) => View.now.only === null || View.now.only === s;

  /** The vertex under a pixel of a view, or null. @param {HTMLElement} view @param {number} px @param {number} py */
  function vertexAt(view, px, py) {
    const {clientWidth: width, clientHeight: height} = view, projected = Brain.project(width, height);
    let found = /** @type {Voxel | null} */ (null), nearest = Infinity;
    for (const s of [0, 1]) {
      if (!shown(s)) continue;
      const {x, y, z} = projected[s], faces = Shape.faces(s, View.now.shape);
      for (let f = 0; f < faces.length; f += 3) {
        const a = faces[f], b = faces[f + 1], c = faces[f + 2];
        const area = (x[b] - x[a]) * (y[c] - y[a]) - (x[c] - x[a]) * (y[b] - y[a]);
        if (area >= 0) continue;  // seen from behind: rows run down, so front faces turn the other way
        const u = ((x[b] - px) * (y[c] - py) - (x[c] - px) * (y[b] - py)) / area;
        const v = ((x[c] - px) * (y[a] - py) - (x[a] - px) * (y[c] - py)) / area;
        const w = 1 - u - v;
        if (u < 0 || v < 0 || w < 0) continue;
        const depth = u * z[a] + v * z[b] + w * z[c];
        if (depth >= nearest) continue;
        nearest = depth;
        found = {side: s, vertex: u >= v && u >= w ? a : v >= w ? b : c};
      }
    }
    return found;
  }

  /** A function (side, vertex) that tells whether a vertex is in sight, for places from `Brain.project`.
      @param {Projected[]} projected @param {number} width @param {number} height @returns {InSight} */
  function sight(projected, width, height) {
    const {shape} = View.now;
    if (shape === 1) return (s, v) => shown(s) && Shape.has(s, v, shape);
    const columns = Math.ceil(width / CELL) + 1, rows = Math.ceil(height / CELL) + 1;
    const near = new Float32Array(columns * rows).fill(Infinity);
    for (const s of [0, 1]) {
      if (!shown(s)) continue;
      const {x, y, z} = projected[s], faces = Shape.faces(s, shape);
      for (let f = 0; f < faces.length; f += 3) {
        const a = faces[f], b = faces[f + 1], c = faces[f + 2];
        const first = Math.max(Math.floor(Math.min(x[a], x[b], x[c]) / CELL), 0);
        const last = Math.min(Math.floor(Math.max(x[a], x[b], x[c]) / CELL), columns - 1);
        const top = Math.max(Math.floor(Math.min(y[a], y[b], y[c]) / CELL), 0);
        const bottom = Math.min(Math.floor(Math.max(y[a], y[b], y[c]) / CELL), rows - 1);
        const depth = (z[a] + z[b] + z[c]) / 3;
        for (let row = top; row <= bottom; row++) {
          for (let column = first; column <= last; column++) {
            if (depth < near[row * columns + column]) near[row * columns + column] = depth;
          }
        }
      }
    }
    const faces = shape === 0 ? facing() : () => true;
    return (s, v) => {
      if (!shown(s) || !Shape.has(s, v, shape) || !faces(s, v)) return false;
      const {x, y, z} = projected[s], column = Math.floor(x[v] / CELL), row = Math.floor(y[v] / CELL);
      if (column < 0 || row < 0 || column >= columns || row >= rows) return false;
      return z[v] <= near[row * columns + column] + BEHIND_MM;
    };
  }

  let neighboursFound = /** @type {number[][] | null} */ (null);

  /** The vertices next to each, found when they are first asked for. @returns {number[][]} */
  function neighbours() {
    if (neighboursFound) return neighboursFound;
    neighboursFound = Array.from({length: Data.N}, () => []);
    const {faces} = Data;
    for (let f = 0; f < faces.length; f += 3) {  // an edge comes once in each direction
      neighboursFound[faces[f]].push(faces[f + 1]);
      neighboursFound[faces[f + 1]].push(faces[f + 2]);
      neighboursFound[faces[f + 2]].push(faces[f]);
    }
    return neighboursFound;
  }

  /** The next voxel of a run in a direction of the screen, from a vertex; null where there is none near.
      @param {HTMLElement} view @param {Run} run @param {Voxel} from @param {number} dx @param {number} dy */
  function next(view, run, from, dx, dy) {
    const {x, y} = Brain.project(view.clientWidth, view.clientHeight)[from.side];
    const near = new Set([from.vertex]);
    for (let ring = 0; ring < 3; ring++) for (const v of [...near]) for (const w of neighbours()[v]) near.add(w);
    near.delete(from.vertex);
    let best = /** @type {number | null} */ (null), least = Infinity;
    for (const v of near) {
      if (run.at[from.side][v] < 0) continue;
      const along = (x[v] - x[from.vertex]) * dx + (y[v] - y[from.vertex]) * dy;
      const across = Math.abs((x[v] - x[from.vertex]) * dy - (y[v] - y[from.vertex]) * dx);
      if (along <= 0 || across > along) continue;
      if (along + 2 * across < least) [best, least] = [v, along + 2 * across];
    }
    return best === null ? null : {side: from.side, vertex: best};
  }

  let normalsFound = /** @type {Float32Array[] | null} */ (null);

  /** The directions (N, 3) in which the inflated surfaces face, found when they are first asked for.
      @returns {Float32Array[]} */
  function normals() {
    normalsFound ??= Data.sides.map(({inflated}) => {
      const sum = new Float32Array(3 * Data.N), {faces} = Data;
      for (let f = 0; f < faces.length; f += 3) {
        const [p, q, r] = [3 * faces[f], 3 * faces[f + 1], 3 * faces[f + 2]];
        const u = [0, 1, 2].map((k) => inflated[q + k] - inflated[p + k]);
        const w = [0, 1, 2].map((k) => inflated[r + k] - inflated[p + k]);
        [u[1] * w[2] - u[2] * w[1], u[2] * w[0] - u[0] * w[2], u[0] * w[1] - u[1] * w[0]].forEach((value, k) => {
          for (const corner of [p, q, r]) sum[corner + k] += value;
        });
      }
      for (let v = 0; v < sum.length; v += 3) {
        const length = Math.hypot(sum[v], sum[v + 1], sum[v + 2]) || 1;
        for (let k = 0; k < 3; k++) sum[v + k] /= length;
      }
      return sum;
    });
    return normalsFound;
  }

  /** The direction in which the inflated surface faces at a vertex. @param {number} s @param {number} vertex */
  const normal = (s, vertex) => [...normals()[s].subarray(3 * vertex, 3 * vertex + 3)];

  /* A function (side, vertex) that tells whether the inflated surface there faces the viewer. */
  function facing() {
    const {azimuth, elevation} = View.camera(), a = azimuth * Math.PI / 180, e = elevation * Math.PI / 180;
    const [x, y, z] = [-Math.sin(a) * Math.cos(e), -Math.cos(a) * Math.cos(e), Math.sin(e)], found = normals();
    return (s, v) => found[s][3 * v] * x + found[s][3 * v + 1] * y + found[s][3 * v + 2] * z > EDGE_ON;
  }

  return {vertexAt, sight, next, normal};
})();
