"use strict";
/* The view in the address of the page, so that a link leads to it again. */

const Permalink = (() => {
  const {get} = Dom;
  const SIDES = ["lh", "rh"], RESTS_MS = 250;
  let written = "", timer = /** @type {number | undefined} */ (undefined);

  const round = (value) => Math.round(1000 * value) / 1000;

  /** The view as it stands; what is as at the start is left out. */
  function text() {
    const told = new URLSearchParams(), {only} = View.now;
    const put = (name, value, usual) => { if (value !== usual) told.set(name, String(value)); };
    put("map", State.map.name, Data.maps[0].name);
    put("voxel", State.pinned ? `${SIDES[State.pinned.side]}.${State.pinned.vertex}` : "", "");
    for (const [name, usual] of Object.entries(View.START)) put(name, round(View.now[name]), usual);
    put("hemi", only === null ? "" : SIDES[only], "");
    put("threshold", State.threshold, -Infinity);
    if (State.threshold !== -Infinity) put("of", State.of, "r2_test");
    put("frame", State.frame ?? "", "");
    put("outlines", Number(State.outlines), 1);
    put("all", Number(State.all), 0);
    return told.toString();
  }

  /** What an address says, as far as this page can show it; null for an address without a view.
      @param {string} hash @returns {Told | null} */
  function read(hash) {
    const told = new URLSearchParams(hash.replace(/^#/, ""));
    if (!hash.includes("=")) return null;
    const number = (name, usual) => {
      const value = Number.parseFloat(told.get(name) ?? "");
      return Number.isFinite(value) ? value : usual;
    };
    const map = Data.maps.find(({name}) => name === told.get("map")) ?? Data.maps[0];
    const [hemi, vertex] = (told.get("voxel") ?? "").split("."), side = SIDES.indexOf(hemi);
    const isKnown = side >= 0 && Data.runs.some((run) => run.at[side][Number(vertex)] >= 0);
    const only = SIDES.indexOf(told.get("hemi") ?? "");
    const of = told.get("of") ?? "";
    return {
      map: map.name,
      voxel: isKnown ? {side, vertex: Number(vertex)} : null,
      view: Object.fromEntries(Object.entries(View.START).map(([name, usual]) => [name, number(name, usual)])),
      only: only < 0 ? null : only,
      threshold: number("threshold", -Infinity),
      of: Data.runs.some((run) => run.numbers[of]) ? of : "r2_test",
      frame: Colours.isLearned(map) ? number("frame", null) : null,
      outlines: told.get("outlines") !== "0",
      all: told.get("all") === "1",
    };
  }

  /** Put the view into the address when it has come to rest. */
  function keep() {
    clearTimeout(timer);
    timer = setTimeout(() => {
      const now = text();
      if (now === written) return;
      written = now;
      try {
        history.replaceState(null, "", `#${now}`);
      } catch {
        // a browser that lets no page on disk change its address; the button still gives the link
      }
    }, RESTS_MS);
  }

  async function copy() {
    const link = `${location.href.split("#")[0]}#${text()}`, field = get("link-field");
    let copied = true;
    try {
      await navigator.clipboard.writeText(link);
    } catch {
      copied = false;
    }
    get("link-words").textContent = copied ? "copied" : "Copy it from here:";
    field.hidden = copied;
    field.value = link;
    if (!copied) field.select();
  }

  function start() {
    written = text();
    get("link").addEventListener("click", copy);
  }

  return {text, read, keep, start};
})();
