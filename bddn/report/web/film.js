"use strict";
/* The slider through the learning: its last place is the fitted encoder. */

const Film = (() => {
  const FRAME_MS = 110;
  const {get, words, count} = Dom;
  const films = Data.runs.map((run) => run.film).filter(Boolean);
  const n = Math.max(0, ...films.map((film) => film.step.length));
  const slider = get("frame"), button = get("play");
  let timer = null, changed = () => {};

  function say() {
    const output = get("frame-words");
    if (State.frame === null) {
      output.textContent = "fitted";
    } else if (Data.runs.length === 1) {
      const {step, loss} = films[0], at = State.frame;
      output.textContent = `step ${count(step[at])}${loss[at] === null ? "" : `, loss ${words(loss[at], 2)}`}`;
    } else {
      const {step} = films.find((film) => film.step.length === n);
      output.textContent = `${Math.round(100 * step[State.frame] / step[n - 1])} % of the fit`;
    }
    slider.setAttribute("aria-valuetext", output.textContent);
  }

  function set(value) {
    State.frame = value >= n ? null : value;
    slider.value = Math.min(value, n);
    say();
    changed();
  }

  function pause() {
    clearInterval(timer);
    timer = null;
    button.textContent = "Play";
  }

  function play() {
    if (State.frame === null) set(0);
    button.textContent = "Pause";
    timer = setInterval(() => {
      set(State.frame + 1);
      if (State.frame === null) pause();
    }, FRAME_MS);
  }

  function start(onChange) {
    if (!n) return;
    changed = onChange;
    get("film").hidden = false;
    slider.max = n;
    slider.value = n;
    say();
    slider.addEventListener("input", () => { pause(); set(Number(slider.value)); });
    button.addEventListener("click", () => (timer === null ? play() : pause()));
  }

  return {start, n, reset: () => { if (n && State.frame !== null) { pause(); set(n); } }};
})();
