"use strict";
/* What lies on the brains: outlines and names of regions, rings around voxels, and letters for the directions. */

const Overlay = (() => {
  const INK = "#1d2125", MIN_REGION = 8, SMOOTHING = 3;
  const AXES = {R: [1, 0, 0], L: [-1, 0, 0], A: [0, 1, 0], P: [0, -1, 0], S: [0, 0, 1], I: [0, 0, -1]};
  const WORDS = {R: "right", L: "left", A: "anterior", P: "posterior", S: "superior", I: "inferior"};
  const EDGES = ["left", "right", "top", "bottom"];

  /** Where regions meet, as a net: a node for every edge of the mesh between two regions, at its middle, and links
     between nodes across a triangle. `kept` tells which triangles there are.
      @param {Run} run @param {number} s @param {(face: number) => unknown} kept */
  function borders(run, s, kept) {
    const {faces} = Data, region = run.words.roi, number = new Map(), ends = [], links = [];
    const codes = new Int32Array(Data.N).fill(-1);
    for (let v = 0; region && v < Data.N; v++) {
      const row = run.at[s][v];
      if (row >= 0 && region.names[region.code[row]]) codes[v] = region.code[row];
    }
    const node = (a, b) => {
      const key = a < b ? a * Data.N + b : b * Data.N + a;
      if (!number.has(key)) {
        number.set(key, ends.length / 2);
        ends.push(a, b);
      }
      return number.get(key);
    };
    for (let f = 0; f < faces.length; f += 3) {
      const code = codes[faces[f]];
      if ((code === codes[faces[f + 1]] && code === codes[faces[f + 2]]) || !kept(f / 3)) continue;
      const corner = [faces[f], faces[f + 1], faces[f + 2]];
      const cut = [[0, 1], [1, 2], [2, 0]].filter(([i, j]) => codes[corner[i]] !== codes[corner[j]]);
      const nodes = cut.map(([i, j]) => node(corner[i], corner[j]));
      for (let i = 1; i < nodes.length; i++) links.push(nodes[i - 1], nodes[i]);
    }
    return {ends: Int32Array.from(ends), links: Int32Array.from(links)};
  }

  /* Places of a net's nodes on the screen, each drawn towards its neighbours, so that lines do not show the mesh. */
  function smoothed({ends, links}, {x, y}) {
    const n = ends.length / 2;
    let px = new Float32Array(n), py = new Float32Array(n);
    for (let i = 0; i < n; i++) {
      px[i] = (x[ends[2 * i]] + x[ends[2 * i + 1]]) / 2;
      py[i] = (y[ends[2 * i]] + y[ends[2 * i + 1]]) / 2;
    }
    for (let turn = 0; turn < SMOOTHING; turn++) {
      const sx = px.slice(), sy = py.slice(), count = new Float32Array(n).fill(1);
      for (let l = 0; l < links.length; l += 2) {
        const a = links[l], b = links[l + 1];
        sx[a] += px[b]; sy[a] += py[b]; count[a]++;
        sx[b] += px[a]; sy[b] += py[a]; count[b]++;
      }
      for (let i = 0; i < n; i++) { sx[i] /= count[i]; sy[i] /= count[i]; }
      [px, py] = [sx, sy];
    }
    return {px, py};
  }

  /** A name for each region of a hemisphere, at the vertex nearest to its middle; large regions first.
      @param {Run} run */
  function names(run) {
    const region = run.words.roi, found = [];
    if (!region) return found;
    region.names.forEach((name, code) => {
      for (const s of name ? [0, 1] : []) {
        const members = [];
        for (let i = 0; i < run.count; i++) {
          if (run.side[i] === s && region.code[i] === code) members.push(run.vertex[i]);
        }
        if (members.length < MIN_REGION) continue;
        const point = (v, k) => Data.sides[s].inflated[3 * v + k];
        const middle = [0, 1, 2].map((k) => members.reduce((sum, v) => sum + point(v, k), 0) / members.length);
        const far = (v) => Math.hypot(...middle.map((m, k) => point(v, k) - m));
        const vertex = members.reduce((best, v) => (far(v) < far(best) ? v : best));
        found.push({name, side: s, vertex, size: members.length});
      }
    });
    return found.sort((a, b) => b.size - a.size);
  }

  const isOnSheet = (face, s) => Data.sides[s].sheet[face >> 3] >> (face & 7) & 1;
  const nets = (k, kept) => [0, 1].map((s) => borders(Data.runs[k], s, (f) => kept(f, s)));

  const layers = Brain.views.map((view, k) => {
    const canvas = Dom.make("canvas", {class: "marks", "aria-hidden": "true"});
    const span = (kind, text = "") => Dom.make("span", {class: kind, "aria-hidden": "true"}, text);
    const letters = Object.fromEntries(EDGES.map((edge) => [edge, span(`letter ${edge}`)]));
    const sheets = [span("sheet", "left hemisphere: ← anterior"), span("sheet", "right hemisphere: anterior →")];
    const run = Data.runs[k];
    view.append(canvas, ...Object.values(letters), ...sheets);
    return {view, canvas, letters, sheets, run, k, whole: null, onSheet: null, names: names(run)};
  });

  function open(canvas, width, height) {
    const scale = Brain.scale();
    const size = [Math.round(width * scale), Math.round(height * scale)];
    if (canvas.width !== size[0] || canvas.height !== size[1]) [canvas.width, canvas.height] = size;
    const context = Dom.brush(canvas, {willReadFrequently: true});  // else Chromium may keep what was cleared
    context.setTransform(scale, 0, 0, scale, 0, 0);
    context.clearRect(0, 0, width, height);
    return context;
  }

  function drawBorders(context, layer, projected, inSight) {
    const kind = View.now.shape > 0 ? "onSheet" : "whole";
    layer[kind] ??= nets(layer.k, View.now.shape > 0 ? isOnSheet : () => true);
    context.beginPath();
    layer[kind].forEach((net, s) => {
      const {px, py} = smoothed(net, projected[s]), {ends, links} = net;
      const seen = Array.from({length: px.length}, (_, i) => inSight(s, ends[2 * i]) && inSight(s, ends[2 * i + 1]));
      for (let l = 0; l < links.length; l += 2) {
        const a = links[l], b = links[l + 1];
        if (!seen[a] || !seen[b]) continue;
        context.moveTo(px[a], py[a]);
        context.lineTo(px[b], py[b]);
      }
    });
    context.lineCap = "round";
    context.strokeStyle = "rgba(255,255,255,0.5)";
    context.lineWidth = 2.4;
    context.stroke();
    context.strokeStyle = INK;
    context.lineWidth = 0.9;
    context.stroke();
  }

  function drawNames(context, layer, projected, inSight) {
    const taken = [];
    context.font = "600 11px system-ui, sans-serif";
    context.textAlign = "center";
    context.textBaseline = "middle";
    context.lineJoin = "round";
    for (const {name, side, vertex} of layer.names) {
      if (!inSight(side, vertex)) continue;
      const x = projected[side].x[vertex], y = projected[side].y[vertex];
      const half = context.measureText(name).width / 2 + 3;
      if (taken.some((t) => Math.abs(t.x - x) < t.half + half && Math.abs(t.y - y) < 14)) continue;
      taken.push({x, y, half});
      context.strokeStyle = "rgba(255,255,255,0.9)";
      context.lineWidth = 3;
      context.strokeText(name, x, y);
      context.fillStyle = INK;
      context.fillText(name, x, y);
    }
  }

  /** @param {CanvasRenderingContext2D} context @param {Projected[]} projected @param {InSight} inSight
      @param {Voxel | null} voxel @param {number} radius @param {boolean} strong */
  function ring(context, projected, inSight, voxel, radius, strong) {
    if (!voxel || !inSight(voxel.side, voxel.vertex)) return;
    const x = projected[voxel.side].x[voxel.vertex], y = projected[voxel.side].y[voxel.vertex];
    const white = {width: strong ? 5 : 3.5, colour: "#fff"}, ink = {width: strong ? 2.2 : 1.4, colour: INK};
    for (const {width, colour} of [white, ink]) {
      context.beginPath();
      context.arc(x, y, radius, 0, 2 * Math.PI);
      context.lineWidth = width;
      context.strokeStyle = colour;
      context.stroke();
    }
  }

  function drawRings(context, layer, projected, inSight) {
    const {run} = layer, row = State.pinned ? run.at[State.pinned.side][State.pinned.vertex] : -1;
    for (let i = 0; row >= 0 && i < run.similar.n; i++) {
      const other = run.similar.row[row * run.similar.n + i];
      ring(context, projected, inSight, {side: run.side[other], vertex: run.vertex[other]}, 3.2, false);
    }
    ring(context, projected, inSight, State.hover, 6, false);
    ring(context, projected, inSight, State.pinned, 7, true);
  }

  /* The axes that point to an edge of the view most, one or two letters. */
  function letterAt(dx, dy) {
    const {azimuth, elevation} = View.camera();
    const a = azimuth * Math.PI / 180, e = elevation * Math.PI / 180;
    const right = [Math.cos(a), -Math.sin(a), 0];
    const up = [Math.sin(a) * Math.sin(e), Math.cos(a) * Math.sin(e), Math.cos(e)];
    const toward = right.map((r, k) => dx * r + dy * up[k]);
    return Object.entries(AXES)
      .map(([letter, axis]) => ({letter, share: axis.reduce((sum, v, k) => sum + v * toward[k], 0)}))
      .filter(({share}) => share > 0.45).sort((p, q) => q.share - p.share).map(({letter}) => letter).join("");
  }

  function setLetters(layer) {
    const flat = View.now.shape > 0.5;
    const way = {left: [-1, 0], right: [1, 0], top: [0, 1], bottom: [0, -1]};
    for (const edge of EDGES) {
      const text = flat ? "" : letterAt(...way[edge]);
      layer.letters[edge].textContent = text;
      layer.letters[edge].title = [...text].map((letter) => WORDS[letter]).join(" and ");
    }
    layer.sheets.forEach((sheet, s) => {
      sheet.hidden = !flat || (View.now.only !== null && View.now.only !== s);
      sheet.classList.toggle("first", s === 0 || View.now.only !== null);
    });
  }

  function draw() {
    for (const layer of layers) {
      const {clientWidth: width, clientHeight: height} = layer.view;
      const context = open(layer.canvas, width, height), projected = Brain.project(width, height);
      const inSight = Pick.sight(projected, width, height);
      if (State.outlines) {
        drawBorders(context, layer, projected, inSight);
        drawNames(context, layer, projected, inSight);
      }
      drawRings(context, layer, projected, inSight);
      setLetters(layer);
    }
  }

  /** Where a vertex is in a view, in its pixels, and whether it is in sight.
      @param {number} k @param {number} side @param {number} vertex */
  function where(k, side, vertex) {
    const {clientWidth: width, clientHeight: height} = layers[k].view, projected = Brain.project(width, height);
    const inSight = Pick.sight(projected, width, height)(side, vertex);
    return {x: projected[side].x[vertex], y: projected[side].y[vertex], inSight};
  }

  return {draw, where, hasRegions: layers.some((layer) => layer.names.length > 0)};
})();
