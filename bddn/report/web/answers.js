"use strict";
/* What a voxel answered to the test images: measured against predicted, and the images that it answers most.
   Shape letters: m images whose points the page has, K images of a list. */

const Answers = (() => {
  const {make, svg, words, count} = Dom;
  const WIDTH = 250, HEIGHT = 238, LEFT = 46, TOP = 6, PLOT = 196, FINE = 2, MARGIN = 0.04, NEAR = 14;
  const LISTS = ["Answered most", "Answered least", "Predicted most"];

  /** One response. @param {Coded} coded @param {number} row @param {number} code */
  const value = (coded, row, code) => coded.low[row] + coded.step[row] * code;

  /** The responses of a voxel to the images whose points the page has: measured and predicted, (m,) each.
      @param {Answered} of @param {number} row */
  function points(of, row) {
    const m = of.kept.length, all = (coded) => Float32Array.from({length: m}, (_, i) => (
      value(coded, row, coded.codes[row * m + i])));
    return {measured: all(of.measured), predicted: all(of.predicted)};
  }

  /** The images of a list of a voxel, with their responses. @param {Answered} of @param {number} row
      @param {number} list @returns {Answer[]} */
  function listed(of, row, list) {
    return Array.from({length: of.n}, (_, i) => {
      const at = (row * LISTS.length + list) * of.n + i;
      return {
        image: of.lists[at],
        measured: value(of.measured, row, of.listed.measured[at]),
        predicted: value(of.predicted, row, of.listed.predicted[at]),
      };
    });
  }

  /** What the axes have in common: from the least to the largest response. @param {Answered} of @param {number} row */
  function range(of, row) {
    const lows = [of.measured, of.predicted].map((coded) => value(coded, row, 0));
    const highs = [of.measured, of.predicted].map((coded) => value(coded, row, 255));
    const low = Math.min(...lows), high = Math.max(...highs), more = MARGIN * (high - low || 1);
    return {low: low - more, high: high + more};
  }

  /** The interval of R², where it is known. @param {Answered} of @param {number} row */
  const interval = ({low, high}, row) => (Number.isNaN(low[row]) ? "" : ` [${words(low[row])}, ${words(high[row])}]`);

  /** Score, correlation and number of images in words. @param {Run} run @param {Answered} of @param {number} row */
  function score(run, of, row) {
    const r2 = words(run.numbers.r2_test[row]) + interval(of, row);
    return `R² ${r2}, r ${words(of.r[row])}, ${count(of.ids.length)} images`;
  }

  function axes({low, high}, x, y) {
    const digits = high - low < 0.5 ? 2 : high - low < 20 ? 1 : 0, parts = [];
    for (const tick of Legend.ticks(low, high, 6)) {
      parts.push(
        svg("text", {x: x(tick), y: TOP + PLOT + 13, "text-anchor": "middle"}, words(tick, digits)),
        svg("text", {x: LEFT - 5, y: y(tick) + 3.5, "text-anchor": "end"}, words(tick, digits)));
    }
    return [
      svg("rect", {x: LEFT, y: TOP, width: PLOT, height: PLOT, class: "frame"}),
      svg("line", {x1: x(low), y1: y(low), x2: x(high), y2: y(high), class: "ideal"}),
      ...parts,
      svg("text", {x: LEFT + PLOT / 2, y: HEIGHT - 4, "text-anchor": "middle"}, "predicted"),
      svg("text", {"text-anchor": "middle", transform: `translate(10 ${TOP + PLOT / 2}) rotate(-90)`}, "measured"),
    ];
  }

  function dots({measured, predicted}, x, y) {
    const canvas = make("canvas", {width: FINE * WIDTH, height: FINE * HEIGHT, "aria-hidden": "true"});
    const context = Dom.brush(canvas);
    context.scale(FINE, FINE);
    context.fillStyle = measured.length > 200 ? "rgba(26,90,138,0.4)" : "rgba(26,90,138,0.7)";
    measured.forEach((value, i) => {
      context.beginPath();
      context.arc(x(predicted[i]), y(value), 1.8, 0, 2 * Math.PI);
      context.fill();
    });
    return canvas;
  }

  /** The thumbnail of a test image; none where the page has none. @param {Answered} of @param {number} image */
  function thumbnail(of, image) {
    const src = Data.thumbnails[of.picture[image]];
    return src ? [make("img", {src, alt: ""})] : [];
  }

  /** @param {Answered} of @param {Answer} answer */
  const said = (of, {image, measured, predicted}) => (
    `${of.ids[image]}: measured ${words(measured, 2)}, predicted ${words(predicted, 2)}`);

  /** The scatter of a voxel, the slider through its images, and its lists.
      @param {Run & {answers: Answered}} run @param {number} row */
  function drawing(run, row) {
    const of = run.answers, both = points(of, row), ends = range(of, row), {measured, predicted} = both;
    const x = (value) => LEFT + PLOT * (value - ends.low) / (ends.high - ends.low);
    const y = (value) => TOP + PLOT * (ends.high - value) / (ends.high - ends.low);
    const order = [...measured.keys()].sort((a, b) => measured[a] - measured[b]), place = new Map();
    order.forEach((i, rank) => place.set(of.kept[i], rank));
    const about = make("p", {class: "small"}, "Move through the images, from the least response.");
    const dot = svg("g", {});
    const slider = make("input", {type: "range", min: 0, max: order.length - 1, step: 1, value: 0,
      "aria-label": "Test image, by measured response"});

    /** @param {Answer} answer */
    function mark(answer) {
      const at = {cx: x(answer.predicted), cy: y(answer.measured), r: 4.5};
      dot.replaceChildren(...["halo", "dot"].map((kind) => svg("circle", {...at, class: kind})));
      about.replaceChildren(...thumbnail(of, answer.image), said(of, answer));
      if (place.has(answer.image)) slider.value = String(place.get(answer.image));
      slider.setAttribute("aria-valuetext", said(of, answer));
    }
    const markPoint = (i) => mark({image: of.kept[i], measured: measured[i], predicted: predicted[i]});
    slider.addEventListener("input", () => markPoint(order[Number(slider.value)]));

    const label = `Measured against predicted responses: ${score(run, of, row)}`;
    const drawn = svg("svg", {viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": label},
      ...axes(ends, x, y), dot);
    const scatter = make("div", {class: "scatter"}, dots(both, x, y), drawn);
    scatter.addEventListener("pointermove", (event) => {
      const box = scatter.getBoundingClientRect(), unit = WIDTH / box.width;
      const px = (event.clientX - box.left) * unit, py = (event.clientY - box.top) * unit;
      const far = (i) => Math.hypot(x(predicted[i]) - px, y(measured[i]) - py);
      const best = order.reduce((found, i) => (far(i) < far(found) ? i : found), order[0]);
      if (far(best) < NEAR) markPoint(best);
    });
    return make("div", {class: "both"},
      make("div", {class: "through"}, scatter, slider, about),
      make("div", {class: "lists"}, ...lists(of, row, mark), ...(of.why ? [make("p", {class: "small"}, of.why)] : [])));
  }

  /** @param {Answered} of @param {number} row @param {(answer: Answer) => void} mark */
  function lists(of, row, mark) {
    return LISTS.map((title, list) => {
      const items = listed(of, row, list).map((answer) => {
        const shown = thumbnail(of, answer.image), text = said(of, answer);
        const button = make("button", {type: "button", title: text, "aria-label": text},
          ...(shown.length ? shown : [of.ids[answer.image]]));
        for (const event of ["pointerenter", "focus", "click"]) button.addEventListener(event, () => mark(answer));
        return make("li", {}, button);
      });
      return make("div", {class: "images"}, make("span", {class: "small"}, title), make("ol", {}, ...items));
    });
  }

  const where = (run, row) => `${run.side[row] ? "Right" : "Left"} hemisphere, vertex ${run.vertex[row]}: `;

  /** All that the page knows of a voxel's responses. @param {Run} run @param {number} row */
  function show(run, row) {
    const of = run.answers;
    if (!of) {
      const how = "Run 'bddn score RUN --cache CACHE --data DATA', and write the page again.";
      return [make("p", {class: "small"}, `Responses to test images are not on this page. ${how}`)];
    }
    if (Number.isNaN(range(of, row).low)) return [make("p", {class: "small"}, "This voxel has no finite responses.")];
    const m = of.kept.length, all = of.ids.length;
    const some = m < all ? ` Dots are ${count(m)} of them, evenly chosen.` : "";
    const how = " In brackets, the 95 % interval for very many images. On the dashed line, predictions are right.";
    return [
      make("p", {class: "small"}, where(run, row), make("b", {}, score(run, of, row)), `.${some}${how}`),
      drawing({...run, answers: of}, row),
    ];
  }

  return {show, interval, points, listed, range};
})();
