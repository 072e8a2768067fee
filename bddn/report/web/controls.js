"use strict";
/* The choices above and below the brain. */

const Controls = (() => {
  const {get, make, words, count} = Dom;

  function maps(changed) {
    const select = get("map"), groups = new Map();
    Data.maps.forEach((map, i) => {
      const option = make("option", {value: i}, map.title);
      if (!map.group) return select.append(option);
      if (!groups.has(map.group)) {
        groups.set(map.group, make("optgroup", {label: map.group}));
        select.append(groups.get(map.group));
      }
      return groups.get(map.group).append(option);
    });
    select.addEventListener("change", () => {
      State.map = Data.maps[Number(select.value)];
      changed();
    });
  }

  /** Choose a map by its name. @param {string} name */
  function choose(name) {
    const i = Data.maps.findIndex((map) => map.name === name);
    State.map = Data.maps[i];
    get("map").value = String(i);
  }

  function threshold(changed) {
    const slider = get("threshold");
    get("threshold-of").hidden = !Data.runs.some((run) => run.numbers.ceiling?.some(Number.isFinite));
    get("threshold-of").addEventListener("change", () => {
      setThreshold(-Infinity, get("threshold-of").value);
      changed();
    });
    slider.addEventListener("input", () => {
      const isOff = Number(slider.value) <= Number(slider.min) + 1e-9;
      setThreshold(isOff ? -Infinity : Number(slider.value), State.of);
      changed();
    });
    setThreshold(-Infinity, "r2_test");
  }

  /** Let voxels count from a threshold of a number on. @param {number} threshold @param {string} of */
  function setThreshold(threshold, of) {
    const slider = get("threshold"), output = get("threshold-words");
    Object.assign(State, {threshold, of});
    let least = 0, most = 0.01;
    for (const run of Data.runs) {
      for (const score of run.numbers[of] ?? []) {
        if (score < least) least = score;
        if (score > most) most = score;
      }
    }
    const low = Math.floor(100 * least) / 100, high = Math.ceil(100 * most) / 100;
    Object.assign(slider, {min: low, max: high, step: 0.01, value: threshold === -Infinity ? low : threshold});
    get("threshold-of").value = of;
    const total = Data.runs.reduce((sum, run) => sum + run.count, 0);
    let left = 0;
    for (const run of Data.runs) for (let i = 0; i < run.count; i++) left += Number(State.passes(run, i));
    output.textContent = threshold === -Infinity ? `all ${count(total)} voxels`
      : `≥ ${words(threshold, 2)}: ${count(left)} of ${count(total)}`;
    slider.setAttribute("aria-valuetext", output.textContent);
  }

  /** The switch that shows voxels without evidence. */
  function evidence(changed) {
    Dom.all(".chip", get("evidence"))[0].style.backgroundColor = Colours.css(Data.noEvidence);
    get("all").addEventListener("change", () => { State.all = get("all").checked; changed(); });
  }

  /** Count the drawn voxels that are grey, say why, and let the switch be where it changes the map. */
  function showEvidence() {
    const isCut = State.threshold !== -Infinity;
    const lacking = Data.runs.filter((run) => State.map.selection && run.evident.includes(0));
    let grey = 0, total = 0;
    for (const run of isCut ? Data.runs : lacking) {
      const lacks = lacking.includes(run);
      for (let i = 0; i < run.count; i++) grey += Number((lacks && !run.evident[i]) || !State.passes(run, i));
      total += run.count;
    }
    const why = [...(lacking.length ? ["no evidence"] : []), ...(isCut ? ["below the threshold"] : [])].join(" or ");
    get("evidence-words").textContent = `${why}: ${count(grey)} of ${count(total)} voxels`;
    get("evidence").hidden = !why;
    const label = get("all").closest("label");
    if (label) label.hidden = !lacking.length;
  }

  function shape() {
    const slider = get("shape"), button = get("fold");
    slider.addEventListener("input", () => {
      const value = Number(slider.value);
      View.set(value < 0.5 ? {shape: value, panX: 0, panY: 0} : {shape: value});
    });
    button.addEventListener("click", () => View.fold(View.now.shape < 0.5 ? 1 : 0));
  }

  /** Let the controls show where the view is. */
  function showShape() {
    const {shape: value} = View.now, text = value === 0 ? "inflated" : value === 1 ? "flat" : "between";
    get("shape").value = String(value);
    get("shape").setAttribute("aria-valuetext", text);
    get("shape-words").textContent = text;
    get("fold").textContent = value < 0.5 ? "Flatten" : "Inflate";
  }

  function views() {
    for (const button of Dom.all("[data-view]")) {
      button.addEventListener("click", () => View.named(button.dataset.view));
    }
    for (const button of Dom.all("[data-zoom]")) {
      button.addEventListener("click", () => View.zoom(Number(button.dataset.zoom)));
    }
    for (const button of Dom.all("[data-only]")) {
      button.addEventListener("click", () => only(button.dataset.only === "" ? null : Number(button.dataset.only)));
    }
  }

  /** Show one hemisphere alone, or both (null). @param {number | null} side */
  function only(side) {
    View.set({only: side, panX: 0, panY: 0});
    for (const button of Dom.all("[data-only]")) {
      button.setAttribute("aria-pressed", String(button.dataset.only === (side === null ? "" : String(side))));
    }
  }

  /** @param {(voxel: Voxel, reveal: boolean) => void} pin */
  function find(pin) {
    const regions = Best.ofRegions(Data.runs), select = get("region");
    const names = [...regions.keys()].sort().map((name) => make("option", {value: name}, name));
    select.append(make("option", {value: ""}, "best voxel of …"), ...names);
    select.addEventListener("change", () => {
      const best = regions.get(select.value);
      if (best) pin(best, true);
    });
    get("find").addEventListener("submit", (event) => {
      event.preventDefault();
      const vertex = Number(get("vertex").value), side = Number(get("side").value);
      const known = get("vertex").value !== "" && Data.runs.some((run) => run.at[side][vertex] >= 0);
      get("missing").hidden = known;
      if (known) pin({side, vertex}, true);
      const given = get("vertex").value || "(none given)", hemisphere = side ? "right" : "left";
      get("missing").textContent = `There is no voxel at vertex ${given} of the ${hemisphere} hemisphere.`;
    });
  }

  /** Let the form show the voxel that is pinned. @param {Voxel} voxel */
  function showVoxel(voxel) {
    get("side").value = String(voxel.side);
    get("vertex").value = String(voxel.vertex);
    get("missing").hidden = true;
    const regions = Data.runs.map((run) => {
      const row = run.at[voxel.side][voxel.vertex], region = run.words.roi;
      return region && row >= 0 ? region.names[region.code[row]] : "";
    });
    get("region").value = regions.find(Boolean) ?? "";
  }

  return {
    maps, choose, threshold, setThreshold, evidence, showEvidence, shape, showShape, views, only, find, showVoxel,
  };
})();
