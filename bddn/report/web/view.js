"use strict";
/* Where the viewer stands. All brains of the page share it, so that they turn together. */

const View = (() => {
  const VIEWS = {left: [90, 0], back: [0, 0], right: [270, 0], top: [0, 90], below: [0, -90]};
  const START = {azimuth: 28, elevation: 8, zoom: 1, panX: 0, panY: 0, shape: 0};
  const MOST_ZOOM = 3, MOST_FLAT_ZOOM = 8;

  const now = {...START, only: /** @type {number | null} */ (null)};
  let moving = /** @type {number | null} */ (null);
  let changed = () => {};

  const still = () => matchMedia("(prefers-reduced-motion: reduce)").matches;
  const mix = (a, b, t) => a + (b - a) * t;

  /** The angle next to `from` that is the same turn as `to`. */
  const nearest = (from, to) => to + 360 * Math.round((from - to) / 360);

  function clamp() {
    now.elevation = Math.min(Math.max(now.elevation, -90), 90);
    now.zoom = Math.min(Math.max(now.zoom, 0.6), mix(MOST_ZOOM, MOST_FLAT_ZOOM, now.shape));
  }

  /** What the camera is set to: the sheet is looked at from behind, whatever the turn of the inflated brain. */
  function camera() {
    const t = Shape.smooth(now.shape);
    return {
      azimuth: mix(now.azimuth, nearest(now.azimuth, 0), t),
      elevation: mix(now.elevation, 0, t),
      zoom: now.zoom,
      panX: now.panX,
      panY: now.panY,
    };
  }

  function set(values) {
    stop();
    Object.assign(now, values);
    clamp();
    changed();
  }

  function stop() {
    if (moving !== null) cancelAnimationFrame(moving);
    moving = null;
  }

  /** Go to some values within a time, or at once for readers who want no motion. */
  function go(target, ms = 450) {
    stop();
    if ("azimuth" in target) target = {...target, azimuth: nearest(now.azimuth, target.azimuth)};
    if (still()) return set(target);
    const from = {...now}, start = performance.now();
    const step = (time) => {
      const t = Math.min(Math.max((time - start) / ms, 0), 1), eased = Shape.smooth(t);
      for (const [name, value] of Object.entries(target)) now[name] = t === 1 ? value : mix(from[name], value, eased);
      clamp();
      moving = t < 1 ? requestAnimationFrame(step) : null;
      changed();
    };
    moving = requestAnimationFrame(step);
    return undefined;
  }

  const named = (name) => {
    const [azimuth, elevation] = VIEWS[name];
    go({azimuth, elevation, zoom: 1, panX: 0, panY: 0, shape: 0}, now.shape > 0 ? 900 : 450);
  };
  const turn = (right, down) => go({azimuth: now.azimuth + right, elevation: now.elevation + down}, 150);
  const home = () => go({...START, shape: now.shape});
  const fold = (shape) => go({shape, zoom: 1, panX: 0, panY: 0}, 1100);

  /** Turn by a drag, in degrees; on the sheet, move it by as many pixels instead. */
  function drag(dx, dy, mmPerPixel) {
    if (now.shape > 0.5) set({panX: now.panX + dx * mmPerPixel, panY: now.panY - dy * mmPerPixel});
    else set({azimuth: (now.azimuth + dx * 0.45) % 360, elevation: now.elevation + dy * 0.45});
  }

  const zoom = (factor) => set({zoom: now.zoom * factor});

  return {
    START, now, camera, set, go, named, turn, home, fold, drag, zoom,
    onChange: (call) => { changed = call; },
    isMoving: () => moving !== null,
  };
})();
