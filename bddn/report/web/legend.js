"use strict";
/* The legend of the chosen map, in the colours that the voxels have. */

const Legend = (() => {
  const LETTER_PX = 7, LEAST_PX = 26, BESIDE_PX = 84;
  const {make, words} = Dom;

  /* A picture whose pixel (column, row) has the colour that `at` gives as a place in the lookup. */
  function picture(lookup, columns, rows, at, className) {
    const canvas = make("canvas", {width: columns, height: rows, class: className, "aria-hidden": "true"});
    const context = Dom.brush(canvas), pixels = context.createImageData(columns, rows);
    for (let row = 0; row < rows; row++) {
      for (let column = 0; column < columns; column++) {
        const from = 3 * at(column, row), to = 4 * (row * columns + column);
        pixels.data.set([lookup[from], lookup[from + 1], lookup[from + 2], 255], to);
      }
    }
    context.putImageData(pixels, 0, 0);
    return canvas;
  }

  /** About n or fewer round numbers between two others. @param {number} low @param {number} high @param {number} n */
  function ticks(low, high, n = 4) {
    const rough = (high - low) / n, power = 10 ** Math.floor(Math.log10(rough));
    const step = [1, 2, 2.5, 5, 10].map((m) => m * power).find((s) => s >= rough - 1e-12) ?? 10 * power;
    const found = [];
    for (let k = Math.ceil(low / step - 1e-9); k * step <= high + 1e-9 * step; k++) found.push(k * step);
    return found;
  }

  /** @param {CortexMap} map */
  function ramp(map) {
    const bar = picture(map.lookup, Colours.RAMP, 1, (column) => column, "ramp");
    const scale = make("div", {class: "ticks"});
    const digits = map.high - map.low < 0.05 ? 3 : map.high - map.low < 10 ? 2 : 0;
    for (const value of ticks(map.low, map.high)) {
      const share = (value - map.low) / (map.high - map.low);
      const more = share > 0.999 && map.beyond[1] ? "≥ " : share < 0.001 && map.beyond[0] ? "≤ " : "";
      const tick = make("span", {}, more + words(value, digits));
      tick.style.left = `${100 * share}%`;
      scale.append(tick);
    }
    const middle = make("div", {class: "bar-and-ticks"}, bar, scale);
    const [low, high] = map.ends;
    const ends = [low, high].map((word) => (word ? [make("span", {}, word)] : []));
    const line = make("div", {class: "line"}, ...ends[0], middle, ...ends[1]);
    return make("div", {class: "legend"}, line, make("p", {class: "what"}, map.label));
  }

  /** @param {CortexMap} map @param {number} k @param {number} width */
  function layer(map, k, width) {
    const run = Data.runs[k], n = run.layers.length;
    const longest = Math.max(...run.own.map((name) => name.length));
    const every = Math.ceil(Math.max(longest * LETTER_PX, LEAST_PX) * n / Math.max(width - BESIDE_PX, 100));
    const counts = new Array(n).fill(0);
    const frame = State.frameOf(run, Film.n), {film} = run;
    let total = 0;
    const add = (row, index) => {
      if (index >= n || !State.passes(run, row) || State.isVeiled(run, row)) return;
      counts[index]++;
      total++;
    };
    if (!film || frame < 0) run.layer.forEach((index, row) => add(row, index));
    else film.drawn.forEach((row, i) => add(row, film.layer[frame * film.drawn.length + i]));
    const field = picture(map.lookup[k], n, Colours.CONFIDENCES,
      (column, row) => column * Colours.CONFIDENCES + Colours.CONFIDENCES - 1 - row, "field");
    const names = make("div", {class: "names"}), shares = make("div", {class: "shares"});
    run.own.forEach((name, i) => {
      names.append(make("span", {title: run.layers[i]}, i % every ? "" : name));
      const share = total && n * LEAST_PX <= width - BESIDE_PX ? `${Math.round(100 * counts[i] / total)}%` : "";
      shares.append(make("span", {}, share));
    });
    const levels = [`${map.top < 1 ? "≥ " : ""}${map.top}`, "confidence", "0"];
    const side = make("div", {class: "confidence"}, ...levels.map((text) => make("span", {}, text)));
    const prefix = run.shared ? ` (${run.shared}${run.shared.includes("*") ? "" : "…"})` : "";
    const which = !State.all && run.evident.includes(0) ? " with evidence" : "";
    const what = `layer${prefix}, early to late; above, the share of voxels${which}`;
    const columns = make("div", {class: "layers"}, side, make("div", {}, shares, field, names));
    return make("div", {class: "legend"}, columns, make("p", {class: "what"}, what));
  }

  function place(map) {
    const at = (column, row) => Colours.placeIndex(map, (column + 0.5) / 48 - 1, (row + 0.5) / 48 - 1);
    return make("div", {class: "legend place"},
      make("span", {class: "end"}, "top of the image"),
      make("span", {}, "left"), picture(map.lookup, 96, 96, at, "wheel"), make("span", {}, "right"),
      make("span", {class: "end"}, "bottom"));
  }

  function classes(map) {
    const chips = map.names.map((name, i) => {
      const chip = make("span", {class: "chip", "aria-hidden": "true"});
      chip.style.backgroundColor = Colours.css(map.lookup, 3 * i);
      return make("li", {}, chip, name);
    });
    return make("ul", {class: "legend chips"}, ...chips);
  }

  /** @param {CortexMap} map */
  function show(map) {
    const to = Dom.get("legend"), columns = Math.max(1, Math.min(Data.runs.length, Math.floor(to.clientWidth / 330)));
    if (map.kind === "layer") {
      to.replaceChildren(...Data.runs.map((run, k) => {
        const made = layer(map, k, to.clientWidth / columns);
        if (Data.runs.length > 1) made.prepend(make("p", {class: "of"}, run.label));
        return made;
      }));
    } else {
      to.replaceChildren({ramp, place, class: classes}[map.kind](map));
    }
  }

  return {show, ticks};
})();
