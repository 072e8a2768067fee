"use strict";
/* The page: what happens when, and in which order things are drawn. */

const Page = (() => {
  const {get} = Dom;
  const CLICK_PX = 5, PRINT_FINENESS = 2.5, TURN_DEGREES = 15;
  let asked = false;

  /** Draw brains and marks before the next picture of the screen. */
  function redraw() {
    if (asked) return;
    asked = true;
    requestAnimationFrame(() => { asked = false; drawNow(); });
  }

  function drawNow() {
    Brain.draw();
    Overlay.draw();
    Controls.showShape();
    Permalink.keep();
  }

  function recolour() {
    const {map} = State;
    Data.runs.forEach((run, k) => {
      const frame = Colours.isLearned(map) ? State.frameOf(run, Film.n) : -1;
      const paint = run.film && frame >= 0 ? Colours.framePainter(map, {...run, film: run.film}, k, frame)
        : Colours.painter(map, run, k);
      const veiled = (row) => map.selection && State.isVeiled(run, row);
      Brain.colour(k, (row, to, at) => (
        State.passes(run, row) && !veiled(row) ? paint(row, to, at) : Colours.veil(to, at)));
    });
    redraw();
  }

  function showMap() {
    Controls.showEvidence();
    get("caption").textContent = `${State.map.heading}.`;
    Legend.show(State.map);
    recolour();
  }

  function mapChanged() {
    if (!Colours.isLearned(State.map)) Film.show(null);
    showMap();
  }

  function shownChanged() {
    Controls.showEvidence();
    Legend.show(State.map);
    Card.scatter(Film.n);
    recolour();
  }

  function frameChanged() {
    if (State.frame !== null && !Colours.isLearned(State.map)) {
      Controls.choose("layer_map");
      showMap();
    } else {
      Legend.show(State.map);
      recolour();
    }
    Card.scatter(Film.n);
  }

  /** Choose a voxel for good; `reveal` turns the brain so that it is in sight.
      @param {Voxel} voxel */
  function pin(voxel, reveal = false) {
    State.pinned = voxel;
    State.hover = null;
    Card.show(voxel);
    Controls.showVoxel(voxel);
    get("found").textContent = Card.said(voxel);
    if (reveal) turnTo(voxel);
    redraw();
  }

  function turnTo({side, vertex}) {
    if (View.now.only !== null && View.now.only !== side) Controls.only(null);
    if (View.now.shape > 0.5 || Overlay.where(0, side, vertex).inSight) return;
    const [x, y, z] = Pick.normal(side, vertex);
    if ((side ? -x : x) > 0.3) Controls.only(side);  // it faces the other hemisphere, which would hide it
    const degrees = 180 / Math.PI, up = Math.asin(Math.min(Math.max(z, -1), 1)) * degrees;
    View.go({azimuth: Math.atan2(-x, -y) * degrees, elevation: up * 2 / 3, shape: 0});  // not quite from above or below
  }

  /** @param {Voxel | null} voxel */
  function hover(voxel) {
    const before = State.hover;
    if (voxel?.side === before?.side && voxel?.vertex === before?.vertex) return;
    State.hover = voxel;
    Card.show(voxel ?? State.pinned);
    redraw();
  }

  /* Voxels are picked, everything else is cortex. */
  function voxelAt(view, event) {
    const box = view.getBoundingClientRect();
    const found = Pick.vertexAt(view, event.clientX - box.left, event.clientY - box.top);
    return found && Data.runs.some((run) => run.at[found.side][found.vertex] >= 0) ? found : null;
  }

  function listenToPointer(view) {
    const down = new Map();
    let travelled = 0, spread = 0;
    view.addEventListener("pointerdown", (event) => {
      if (event.button !== 0) return;
      down.set(event.pointerId, event);
      view.setPointerCapture(event.pointerId);
      travelled = 0;
      spread = 0;
    });
    view.addEventListener("pointermove", (event) => {
      const last = down.get(event.pointerId);
      if (!last) {
        if (event.pointerType === "mouse" && !View.isMoving()) hover(voxelAt(view, event));
        return;
      }
      const dx = event.clientX - last.clientX, dy = event.clientY - last.clientY;
      down.set(event.pointerId, event);
      travelled += Math.abs(dx) + Math.abs(dy);
      if (down.size === 2) {
        const [a, b] = [...down.values()], apart = Math.hypot(a.clientX - b.clientX, a.clientY - b.clientY);
        if (spread > 0) View.zoom(apart / spread);
        spread = apart;
      }
      if (travelled < CLICK_PX) return;
      View.drag(dx / down.size, dy / down.size, Brain.mmPerPixel(view.clientWidth, view.clientHeight));
    });
    const up = (event) => {
      if (!down.delete(event.pointerId) || event.type !== "pointerup" || travelled >= CLICK_PX) return;
      const voxel = voxelAt(view, event);
      if (voxel) pin(voxel);
    };
    view.addEventListener("pointerup", up);
    view.addEventListener("pointercancel", up);
    view.addEventListener("pointerleave", () => hover(null));
    view.addEventListener("dblclick", View.home);
    view.addEventListener("wheel", (event) => {
      if (!event.ctrlKey && !event.metaKey) return;  // the page scrolls
      event.preventDefault();
      View.zoom(Math.exp(-event.deltaY / 300));
    }, {passive: false});
  }

  const ARROWS = {ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1]};

  function listenToKeys(view, k) {
    view.addEventListener("keydown", (event) => {
      if (event.ctrlKey || event.metaKey || event.altKey) return;
      const arrow = ARROWS[event.key];
      if (arrow && event.shiftKey) View.turn(TURN_DEGREES * arrow[0], TURN_DEGREES * arrow[1]);
      else if (arrow) step(view, k, ...arrow);
      else if (event.key === "+" || event.key === "=") View.zoom(1.2);
      else if (event.key === "-") View.zoom(1 / 1.2);
      else if (event.key === "f" || event.key === "F") View.fold(View.now.shape < 0.5 ? 1 : 0);
      else if (event.key === "Home") View.home();
      else return;
      event.preventDefault();
    });
  }

  function step(view, k, dx, dy) {
    const next = State.pinned && Pick.next(view, Data.runs[k], State.pinned, dx, dy);
    if (next) pin(next, true);
  }

  /* Paper has no WebGL: the brain is printed as the picture that it is, and what is folded is opened. */
  function listenToPrinter() {
    let folded = /** @type {HTMLDetailsElement[]} */ ([]);
    window.addEventListener("beforeprint", () => {
      Brain.setFineness(PRINT_FINENESS);
      drawNow();
      get("print").src = Brain.picture();
      Brain.setFineness(1);
      drawNow();
      const closed = /** @type {HTMLDetailsElement[]} */ (Dom.all("details:not([open])"));
      folded = closed.filter((details) => !details.closest("#files, .card"));
      folded.forEach((details) => { details.open = true; });
    });
    window.addEventListener("afterprint", () => folded.forEach((details) => { details.open = false; }));
  }

  /** Show what an address says. @param {string} hash */
  function open(hash) {
    const told = Permalink.read(hash);
    if (!told) return;
    Controls.choose(told.map);
    Controls.setThreshold(told.threshold, told.of);
    Object.assign(State, {outlines: told.outlines, all: told.all});
    get("outlines").checked = told.outlines;
    get("all").checked = told.all;
    Film.show(told.frame);
    Controls.only(told.only);
    View.set(told.view);
    if (told.voxel) pin(told.voxel);
    Card.scatter(Film.n);
    showMap();
  }

  async function start() {
    Tables.start();
    Controls.maps(mapChanged);
    Controls.threshold(shownChanged);
    Controls.evidence(shownChanged);
    Controls.shape();
    Controls.views();
    Controls.find(pin);
    Film.start(frameChanged);
    const outlines = get("outlines"), label = outlines.closest("label");
    if (label) label.hidden = !Overlay.hasRegions;
    outlines.addEventListener("change", () => { State.outlines = outlines.checked; redraw(); });
    try {
      await Brain.start();
    } catch (error) {
      get("trouble").hidden = false;
      const reason = `this browser gives no WebGL 2 (${error instanceof Error ? error.message : error})`;
      get("trouble").textContent = `The brain cannot be drawn: ${reason}. The tables below are complete.`;
      return;
    }
    View.onChange(redraw);
    Brain.views.forEach((view, k) => { listenToPointer(view); listenToKeys(view, k); });
    get("cards").addEventListener("click", ({target}) => {
      const {side, vertex} = /** @type {HTMLElement} */ (target).dataset;
      if (vertex !== undefined) pin({side: Number(side), vertex: Number(vertex)}, true);
    });
    listenToPrinter();
    const first = Best.of(Data.runs[0]);
    if (first) pin(first);
    Card.scatter(Film.n);
    showMap();
    open(location.hash);
    Permalink.start();
    addEventListener("hashchange", () => open(location.hash));
    drawNow();
    new ResizeObserver(redraw).observe(get("stage"));
    document.body.dataset.ready = String(Math.round(performance.now()));
  }

  start();
  return {pin, redraw, drawNow};
})();
