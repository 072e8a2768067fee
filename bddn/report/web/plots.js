"use strict";
/* Small drawings of one voxel: its layer weights, its place in the image, and its scale. */

const Plots = (() => {
  const {svg, make, words} = Dom;
  const WIDTH = 312, HEIGHT = 104, TOP = 14, FOOT = 16, TALL = HEIGHT - TOP - FOOT;
  const EDGE = 1.06;  // of the image's drawing, so that dots at its rim are whole
  const clamp = (value, low, high) => Math.min(Math.max(value, low), high);

  function bar(k, i, step, weight) {
    const height = Number.isNaN(weight) ? 0 : TALL * clamp(weight, 0, 1);
    const box = {x: (i + 0.12) * step, y: TOP + TALL - height, width: step * 0.76, height};
    const title = svg("title", {}, `${Data.runs[k].layers[i]}: ${words(weight)}`);
    return svg("rect", {...box, fill: Colours.ofLayer(k, i)}, title);
  }

  /** Layer weights of a voxel of run k, with as many names as find room.
      @param {number} k @param {number[]} weights @param {number} chosen */
  function bars(k, weights, chosen) {
    const run = Data.runs[k], step = WIDTH / weights.length, parts = [];
    const every = Math.max(1, Math.ceil(Math.max(...run.own.map((name) => name.length)) * 6.2 / step));
    const half = (text) => 3.4 * text.length, within = (x, text) => clamp(x, half(text), WIDTH - half(text));
    const write = (x, y, text, kind) => svg("text", {x: within(x, text), y, class: kind}, text);
    const middle = (i) => within((i + 0.5) * step, run.own[i]);
    const apart = (i) => Math.abs(middle(i) - middle(chosen)) >= half(run.own[i]) + half(run.own[chosen]);
    weights.forEach((weight, i) => {
      parts.push(bar(k, i, step, weight));
      const x = (i + 0.5) * step;
      if (i === chosen) {
        parts.push(write(x, HEIGHT - 3, run.own[i], "chosen"));
        parts.push(write(x, TOP + TALL * (1 - clamp(weight, 0, 1)) - 3, words(weight, 2), "chosen"));
      } else if (i % every === 0 && (chosen < 0 || apart(i))) {
        parts.push(write(x, HEIGHT - 3, run.own[i], "other"));
      }
    });
    parts.push(svg("line", {x1: 0, x2: WIDTH, y1: TOP + TALL + 0.5, y2: TOP + TALL + 0.5, class: "base"}));
    const label = `Layer weights: ${run.layers.map((name, i) => `${name} ${words(weights[i], 2)}`).join(", ")}`;
    return svg("svg", {viewBox: `0 0 ${WIDTH} ${HEIGHT}`, class: "bars", role: "img", "aria-label": label}, ...parts);
  }

  /** The image, with the places of all voxels of run k in the colours of their layers. @param {number} k */
  function plane(k) {
    const canvas = make("canvas", {width: 240, height: 240, "aria-hidden": "true"});
    const dot = svg("g", {});
    const marks = svg("svg", {viewBox: `${-EDGE} ${-EDGE} ${2 * EDGE} ${2 * EDGE}`, role: "img"},
      svg("path", {d: "M-1,0H1M0,-1V1", class: "cross"}),
      svg("rect", {x: -1, y: -1, width: 2, height: 2, class: "frame"}),
      dot);
    return {element: make("div", {class: "plane"}, canvas, marks), canvas, marks, dot, run: Data.runs[k], k};
  }

  /** Draw the places of all voxels that pass the threshold; n is the film's number of frames. */
  function scatter({canvas, run, k}, n) {
    const context = Dom.brush(canvas, {willReadFrequently: true}), size = canvas.width / (2 * EDGE);
    const frame = State.frameOf(run, n), {x, y} = run.numbers;
    context.clearRect(0, 0, canvas.width, canvas.height);
    context.globalAlpha = run.count > 4000 ? 0.35 : 0.6;
    const dot = (row, px, py, index) => {
      if (Number.isNaN(px) || Number.isNaN(py) || index >= run.layers.length || !State.passes(run, row)) return;
      if (State.isVeiled(run, row)) return;
      context.fillStyle = Colours.ofLayer(k, index);
      context.fillRect((px + EDGE) * size - 1.5, (py + EDGE) * size - 1.5, 3, 3);
    };
    if (frame < 0) {
      for (let i = 0; i < run.count; i++) dot(i, x[i], y[i], run.layer[i]);
      return;
    }
    const {drawn, place, layer} = run.film;
    drawn.forEach((row, i) => {
      const at = frame * drawn.length + i;
      dot(row, place[2 * at] / 127.5 - 1, place[2 * at + 1] / 127.5 - 1, layer[at]);
    });
  }

  /** Put the ring of one voxel on the image. */
  function mark({marks, dot}, x, y) {
    const known = !Number.isNaN(x) && !Number.isNaN(y), at = {cx: x, cy: y, r: 0.09};
    marks.setAttribute("aria-label", `Place in the image: x ${words(x, 2)} to the right, y ${words(y, 2)} down`);
    dot.replaceChildren(...(known ? ["halo", "dot"].map((kind) => svg("circle", {...at, class: kind})) : []));
  }

  /** Where a scale is between local and global. */
  function gauge(value) {
    const label = `Scale ${words(value, 2)}, 0 is local and 1 global`;
    const dot = svg("circle", {cx: 4 + 142 * clamp(value, 0, 1), cy: 9, r: 5, class: "dot"});
    return svg("svg", {viewBox: "0 0 150 30", class: "gauge", role: "img", "aria-label": label},
      svg("line", {x1: 4, x2: 146, y1: 9, y2: 9, class: "track"}),
      svg("line", {x1: 75, x2: 75, y1: 5, y2: 13, class: "track"}),
      ...(Number.isNaN(value) ? [] : [dot]),
      svg("text", {x: 4, y: 27}, "local"),
      svg("text", {x: 146, y: 27, "text-anchor": "end"}, "global"));
  }

  return {bars, plane, scatter, mark, gauge};
})();
