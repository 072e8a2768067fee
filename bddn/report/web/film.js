"use strict";
/* The slider through the learning: its last place is the fitted encoder. */

const Film = (() => {
  const FRAME_MS = 110;
  const {get, words, count} = Dom;
  const films = Data.runs.flatMap((run) => run.film ?? []);
  const n = Math.max(0, ...films.map((film) => film.step.length));
  const slider = get("frame"), button = get("play");
  let timer = /** @type {number | undefined} */ (undefined), changed = () => {};

  function say() {
    const output = get("frame-words");
    if (State.frame === null) {
      output.textContent = "fitted";
    } else if (Data.runs.length === 1) {
      const {step, loss} = films[0], at = State.frame;
      output.textContent = `step ${count(step[at])}${loss[at] === null ? "" : `, loss ${words(loss[at], 2)}`}`;
    } else {
      const {step} = /** @type {Film} */ (films.find((film) => film.step.length === n));
      output.textContent = `${Math.round(100 * step[State.frame] / step[n - 1])} % of the fit`;
    }
    slider.setAttribute("aria-valuetext", output.textContent);
  }

  /** @param {number} value */
  function set(value) {
    State.frame = value >= n ? null : value;
    slider.value = String(Math.min(value, n));
    say();
    changed();
  }

  function pause() {
    clearInterval(timer);
    timer = undefined;
    button.textContent = "Play";
  }

  function play() {
    if (State.frame === null) set(0);
    button.textContent = "Pause";
    timer = setInterval(() => {
      set((State.frame ?? n) + 1);
      if (State.frame === null) pause();
    }, FRAME_MS);
  }

  /** @param {() => void} onChange */
  function start(onChange) {
    if (!n) return;
    changed = onChange;
    get("film").hidden = false;
    slider.max = String(n);
    slider.value = String(n);
    say();
    slider.addEventListener("input", () => { pause(); set(Number(slider.value)); });
    button.addEventListener("click", () => (timer === undefined ? play() : pause()));
  }

  /** Show a frame, or the fitted encoder (null). @param {number | null} frame */
  function show(frame) {
    if (!n || State.frame === frame) return;
    pause();
    set(frame === null ? n : Math.max(0, Math.round(frame)));
  }

  return {start, n, show};
})();
