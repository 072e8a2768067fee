"use strict";
/* The shape of the cortex between inflated (0) and flat (1), in mm: x to the right, y to the front, z up.
   On the way a hemisphere turns its outside to the viewer behind the head, and opens along the cuts of its sheet. */

const Shape = (() => {
  const APART = 44, LATERAL = 41, BETWEEN_SHEETS = 8;
  const N = Data.N;
  const smooth = (t) => t * t * (3 - 2 * t);

  const onSheet = Data.sides.map((side) => {
    const kept = [];
    for (let f = 0; f < Data.faces.length / 3; f++) {
      if (side.sheet[f >> 3] >> (f & 7) & 1) kept.push(Data.faces[3 * f], Data.faces[3 * f + 1], Data.faces[3 * f + 2]);
    }
    return Uint32Array.from(kept);
  });
  const whole = Uint32Array.from(Data.faces);
  const placed = onSheet.map((faces) => {
    const has = new Uint8Array(N);
    for (const vertex of faces) has[vertex] = 1;
    return has;
  });

  /* Left and right edge of each sheet, so that the two lie side by side without a gap of chance. */
  const edges = Data.sides.map((side, s) => {
    let low = Infinity, high = -Infinity;
    for (let v = 0; v < N; v++) {
      if (!placed[s][v]) continue;
      low = Math.min(low, side.flat[2 * v]);
      high = Math.max(high, side.flat[2 * v]);
    }
    return [low, high];
  });
  const flatShift = [-edges[0][1] - BETWEEN_SHEETS / 2, -edges[1][0] + BETWEEN_SHEETS / 2];

  const middles = edges.map(([low, high]) => (low + high) / 2);

  /** Places of one side's vertices (N, 3) at a shape; `alone` puts the hemisphere in the middle.
      @param {number} s @param {number} shape @param {boolean} alone */
  function positions(s, shape, alone) {
    const side = Data.sides[s], sign = s === 0 ? -1 : 1, t = smooth(shape);
    const angle = -sign * t * Math.PI / 2, cos = Math.cos(angle), sin = Math.sin(angle);
    const shift = alone ? -middles[s] * t : sign * APART * (1 - t) + flatShift[s] * t;
    const out = new Float32Array(3 * N);
    for (let v = 0; v < N; v++) {
      let x = side.inflated[3 * v], y = side.inflated[3 * v + 1], z = side.inflated[3 * v + 2];
      x += t * (sign * LATERAL - x);
      y += t * (sign * side.flat[2 * v] - y);
      z += t * (side.flat[2 * v + 1] - z);
      out[3 * v] = cos * x - sin * y + shift;
      out[3 * v + 1] = sin * x + cos * y;
      out[3 * v + 2] = z;
    }
    return out;
  }

  /** Triangles that are drawn at a shape. */
  const faces = (s, shape) => (shape > 0 ? onSheet[s] : whole);

  /** Whether a vertex is drawn at a shape; on the sheet, some on its cuts are not. */
  const has = (s, vertex, shape) => shape === 0 || placed[s][vertex] === 1;

  /* What is to be seen of the sheets: all voxels and a margin, but no less than a good part of them. */
  function sheetBox(only) {
    const box = [Infinity, -Infinity, Infinity, -Infinity];
    for (const run of Data.runs) {
      for (let i = 0; i < run.count; i++) {
        const s = run.side[i], v = run.vertex[i];
        if (!placed[s][v] || (only !== null && s !== only)) continue;
        const x = Data.sides[s].flat[2 * v] + (only === null ? flatShift[s] : -middles[s]);
        const z = Data.sides[s].flat[2 * v + 1];
        box[0] = Math.min(box[0], x); box[1] = Math.max(box[1], x);
        box[2] = Math.min(box[2], z); box[3] = Math.max(box[3], z);
      }
    }
    const middle = Number.isFinite(box[2]) ? (box[2] + box[3]) / 2 : 0;
    const half = Math.max(-box[0], box[1], only === null ? 190 : 110) + 12;
    return {half, tall: Math.max(box[3] - middle, 90) + 12, middle};
  }
  const sheetBoxes = [null, 0, 1].map(sheetBox);

  /** Half of the width and height, in mm, that a view must hold, and the height of its middle; from above, a brain is
      taller than from the side. */
  function extent({shape, only, elevation}) {
    const t = smooth(shape), mix = (a, b) => a + t * (b - a), sheet = sheetBoxes[only === null ? 0 : only + 1];
    const tall = 84 + 30 * Math.abs(Math.sin(elevation * Math.PI / 180));
    return {half: mix(114, sheet.half), tall: mix(tall, sheet.tall), middle: mix(0, sheet.middle)};
  }

  return {positions, faces, has, extent, smooth};
})();
