"use strict";
/* The numbers of a voxel, a card for each run. */

const Card = (() => {
  const {make, words, exact, count} = Dom;
  const SIDES = ["Left hemisphere", "Right hemisphere"];
  const small = (text) => make("span", {class: "small"}, text);
  const head = (text, more) => make(Data.runs.length > 1 ? "h4" : "h3", {class: "part"}, text, small(more));
  let allNumbers = false;

  const answered = [...document.querySelectorAll("#answered .responses")];
  const cards = [...document.querySelectorAll("#cards .numbers")].map((place, k) => (
    {k, run: Data.runs[k], plane: Plots.plane(k), place, answers: answered[k]}
  ));

  const number = (run, name, row) => (run.numbers[name] ? run.numbers[name][row] : NaN);

  function regionsOf(run, row) {
    const found = Object.values(run.words).map((word) => word.names[word.code[row]]).filter(Boolean);
    return [...new Set(found)];
  }

  /** The ends of the interval of a number, where the run has them. */
  function interval(run, name, row, digits = 2) {
    const [low, high] = ["low", "high"].map((end) => number(run, `${name}_${end}`, row));
    return Number.isNaN(low) || Number.isNaN(high) ? "" : ` [${words(low, digits)}, ${words(high, digits)}]`;
  }

  function score(run, row) {
    const others = [["validation", "r2_val"], ["ceiling", "ceiling"]]
      .filter(([, name]) => !Number.isNaN(number(run, name, row)))
      .map(([name, column]) => `${name} ${words(number(run, column, row))}`);
    const value = make("b", {"data-column": "r2_test"}, words(number(run, "r2_test", row)));
    const what = [" brain score R², test", ...(others.length ? [others.join(", ")] : [])].join("; ");
    const ends = make("span", {class: "interval"}, run.answers ? Answers.interval(run.answers, row) : "");
    return make("p", {class: "score"}, value, ends, small(what));
  }

  /** Whether the score is above chance, in runs that were tested. */
  function evidence(run, row) {
    const q = number(run, "q_test", row), value = q < 0.001 ? "q < 0.001" : `q ${words(q)}`;
    if (Number.isNaN(q)) return [];
    const unproven = make("b", {}, "No evidence"), doubt = ` (${value}): the score is not above chance.`;
    return [make("p", {class: "small"}, ...(run.evident[row] ? [`Evidence: ${value}`] : [unproven, doubt]))];
  }

  /** The size of the receptive field, in fits that select it. */
  function size(run, row) {
    const value = number(run, "size", row);
    if (Number.isNaN(value)) return [];
    const unit = make("p", {class: "small"}, "tokens, the standard deviation of the blur");
    return [head("Size ", words(value, 2) + interval(run, "size", row)), unit];
  }

  function layers(run, k, row) {
    const chosen = run.layer[row], weights = run.layers.map((name) => number(run, `weight_${name}`, row));
    const sure = words(number(run, "confidence", row), 2), deep = words(number(run, "depth", row), 2);
    const agreed = number(run, "agreement", row), name = run.layers[chosen] ?? "none";
    const agreement = Number.isNaN(agreed) ? "" : `, agreement ${words(agreed, 2)}`;
    const what = `${name}, confidence ${sure}${agreement}, depth ${deep}${interval(run, "depth", row)}`;
    return [head("Layers ", what), Plots.bars(k, weights, chosen)];
  }

  function place(run, plane, row) {
    const x = number(run, "x", row), y = number(run, "y", row);
    Plots.mark(plane, x, y);
    const [inX, inY] = ["x", "y"].map((name) => interval(run, name, row));
    const between = inX ? make("br") : ", ", down = `y ${words(y, 2)}${inY} (down)`;
    const numbers = make("p", {class: "small"}, `x ${words(x, 2)}${inX}`, between, down);
    return make("div", {}, head("Place ", "in the image"), plane.element, numbers);
  }

  function similar(run, row) {
    const {n, row: rows, cosine} = run.similar, items = [];
    if (!n) return [];
    for (let i = row * n; i < (row + 1) * n; i++) {
      const other = rows[i], side = run.side[other], vertex = run.vertex[other];
      const where = {type: "button", "data-side": side, "data-vertex": vertex};
      items.push(make("li", {},
        make("button", where, `${side ? "rh" : "lh"} ${vertex}`),
        make("span", {}, regionsOf(run, other)[0] || "–"),
        make("span", {class: "number"}, words(cosine[i] / 1e4, 2))));
    }
    const list = make("ol", {class: "similar"}, ...items);
    return [make("div", {class: "nearest"}, head("Nearest by channels ", "cosine of the channel weights"), list)];
  }

  function table(run, row) {
    const line = (name, value) => make("tr", {},
      make("th", {scope: "row"}, name), make("td", {"data-exact": name}, value));
    const lines = [
      line("hemi", run.side[row] ? "rh" : "lh"),
      line("vertex", String(run.vertex[row])),
      line("layer_argmax", run.layers[run.layer[row]] ?? "–"),
      ...Object.entries(run.words).map(([name, word]) => line(name, word.names[word.code[row]] || "–")),
      ...Object.entries(run.numbers).map(([name, values]) => line(name, exact(values[row]))),
    ];
    const caption = make("caption", {class: "hidden"}, "All numbers of this voxel");
    const details = make("details", {open: allNumbers, class: "all"},
      make("summary", {}, "All numbers"), make("table", {}, caption, make("tbody", {}, ...lines)));
    details.addEventListener("toggle", () => { allNumbers = details.open; });
    return details;
  }

  function missing(voxel) {
    if (!voxel) return "Point at a voxel, or find one above.";
    return `This run has no voxel at vertex ${count(voxel.vertex)} of the ${SIDES[voxel.side].toLowerCase()}.`;
  }

  function fill({run, plane, place: to, answers, k}, voxel) {
    const row = voxel ? run.at[voxel.side][voxel.vertex] : -1;
    answers.replaceChildren(...(row < 0 ? [] : Answers.show(run, row)));
    if (row < 0) return to.replaceChildren(make("p", {class: "small"}, missing(voxel)));
    const chips = regionsOf(run, row).map((name) => make("li", {}, name)), scale = number(run, "scale", row);
    const right = make("div", {},
      head("Scale ", words(scale, 2) + interval(run, "scale", row)), Plots.gauge(scale),
      ...size(run, row), ...similar(run, row));
    return to.replaceChildren(
      make("p", {class: "who"}, make("b", {}, SIDES[voxel.side]), ` vertex ${voxel.vertex}`),
      ...(chips.length ? [make("ul", {class: "regions", "aria-label": "Regions"}, ...chips)] : []),
      score(run, row),
      ...evidence(run, row),
      ...layers(run, k, row),
      make("div", {class: "pair"}, place(run, plane, row), right),
      table(run, row),
    );
  }

  /** Show a voxel in all cards. */
  const show = (voxel) => cards.forEach((card) => fill(card, voxel));

  /** Draw the places of all voxels again, after a new threshold or frame; n is the film's number of frames. */
  const scatter = (n) => cards.forEach((card) => Plots.scatter(card.plane, n));

  function saidOf(run, row) {
    const layer = run.layers[run.layer[row]] ?? "no layer";
    const of = (name, digits = 2) => words(number(run, name, row), digits);
    return [
      regionsOf(run, row).join(", ") || "no region",
      `brain score ${of("r2_test", 3)}${run.evident[row] ? "" : ", no evidence"}`,
      `layer ${layer} with weight ${of(`weight_${layer}`)}`,
      `place x ${of("x")}, y ${of("y")}`,
      `scale ${of("scale")}`,
    ].join("; ");
  }

  /** What a listener hears of a voxel. */
  function said(voxel) {
    const parts = Data.runs.map((run) => {
      const row = run.at[voxel.side][voxel.vertex], of = Data.runs.length > 1 ? `${run.label}: ` : "";
      return of + (row < 0 ? "no voxel" : saidOf(run, row));
    });
    return `${SIDES[voxel.side]}, vertex ${voxel.vertex}. ${parts.join(". ")}.`;
  }

  return {show, scatter, said};
})();
