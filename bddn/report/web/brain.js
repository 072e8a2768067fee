"use strict";
/* The brains, drawn by NiiVue: one mesh per run and hemisphere, all on one canvas behind the tiles of the page. */

const Brain = (() => {
  const HALF_BOX = 100;  // mm; NiiVue derives the width of its view from the boxes of the meshes
  const FURTHEST = Math.sqrt(3) * HALF_BOX, NIIVUE_MARGIN = 0.8;
  const DEEPER = 2.2;  // moves the brain to the middle of the depth that NiiVue draws, so that zooming cuts nothing off
  const canvas = Dom.get("canvas"), stage = Dom.get("stage");
  const views = Dom.all(".view", stage);
  const meshes = [];
  let fineness = 1, drawnShape = 0, drawnOnly = /** @type {number | null} */ (null);
  let nv = /** @type {any} */ (null), places = /** @type {Float32Array[]} */ ([]);

  /* The light: bright where the surface faces the viewer, so that colours there and on the sheet are those of the
     legend, and softer to the edges. NiiVue looks it up by the direction of the surface. */
  function lamp() {
    const n = 128, picture = Dom.make("canvas", {width: n, height: n});
    const context = Dom.brush(picture), pixels = context.createImageData(n, n);
    for (let row = 0; row < n; row++) {
      for (let column = 0; column < n; column++) {
        const x = (column + 0.5) / n * 2 - 1, up = 1 - (row + 0.5) / n * 2;
        const facing = Math.sqrt(Math.max(0, 1 - x * x - up * up));
        const soft = 0.60 + 0.40 * facing ** 0.75 + 0.16 * up * (1 - facing);
        const value = 255 * Math.min(1, soft * (facing < 0.22 ? 0.82 + 0.18 * facing / 0.22 : 1));
        pixels.data.set([value, value, value, 255], 4 * (row * n + column));
      }
    }
    context.putImageData(pixels, 0, 0);
    return picture.toDataURL();
  }

  async function start() {
    nv = new niivue.Niivue({
      backColor: [1, 1, 1, 1],
      show3Dcrosshair: false,
      isOrientCube: false,
      isResizeCanvas: false,
      interactive: false,
      dragAndDropEnabled: false,
      loadingText: "",
      logLevel: "error",
    });
    nv.meshShaders = nv.meshShaders.filter((shader) => shader.Name === "Matcap");  // others need not be compiled
    nv.loadDefaultMatCap = () => nv.loadMatCapTexture(lamp());
    resize();
    await nv.attachToCanvas(canvas, true);
    stage.style.backgroundColor = "";
    places = [0, 1].map((s) => Shape.positions(s, 0, false));
    Data.runs.forEach((_, k) => {
      meshes.push([0, 1].map((s) => {
        const grey = new Uint8Array(4 * Data.N).fill(255);
        const mesh = new niivue.NVMesh(places[s], Shape.faces(s, 0), `${k} ${s}`, grey, 1, true, nv.gl);
        mesh.extentsMin = [-HALF_BOX, -HALF_BOX, -HALF_BOX];
        mesh.extentsMax = [HALF_BOX, HALF_BOX, HALF_BOX];
        nv.meshes.push(mesh);
        return mesh;
      }));
    });
    nv.setPivot3D();
  }

  /** Fit the canvas to the page. */
  function resize() {
    nv.uiData.dpr = scale();
    const width = Math.max(Math.round(stage.clientWidth * scale()), 1);
    const height = Math.max(Math.round(stage.clientHeight * scale()), 1);
    if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, {width, height});
  }

  /** Pixels of the canvas for each of the page's. */
  const scale = () => Math.max(window.devicePixelRatio || 1, fineness);

  /** Give the voxels of run k their colours: `paint` writes a row's colour, or is false for bare cortex.
      @param {number} k @param {Paint} paint */
  function colour(k, paint) {
    const run = Data.runs[k];
    for (const s of [0, 1]) {
      const rgba = meshes[k][s].rgba255, {grey} = Data.sides[s], at = run.at[s];
      for (let v = 0; v < Data.N; v++) {
        if (at[v] >= 0 && paint(at[v], rgba, 4 * v)) continue;
        rgba[4 * v] = rgba[4 * v + 1] = rgba[4 * v + 2] = grey[v];
      }
      meshes[k][s].updateMesh(nv.gl);
    }
  }

  function reshape() {
    const {shape, only} = View.now;
    if (shape === drawnShape && only === drawnOnly) return;
    drawnShape = shape;
    drawnOnly = only;
    places = [0, 1].map((s) => Shape.positions(s, shape, only !== null));
    for (const pair of meshes) {
      pair.forEach((mesh, s) => {
        mesh.pts = places[s];
        mesh.tris = Shape.faces(s, shape);
        mesh.updateMesh(nv.gl);
      });
    }
  }

  /** Half of the height (or of the width, where that is less) of a view, in mm.
      @param {number} width @param {number} height */
  function reach(width, height) {
    const {half, tall} = Shape.extent(View.now), aspect = width / height;
    return (aspect < 1 ? Math.max(half, tall * aspect) : Math.max(tall, half / aspect)) / View.now.zoom;
  }

  function aim(width, height) {
    const camera = View.camera(), e = reach(width, height);
    nv.scene.renderAzimuth = camera.azimuth;
    nv.scene.renderElevation = camera.elevation;
    nv.scene.volScaleMultiplier = NIIVUE_MARGIN * FURTHEST / e;
    const {middle} = Shape.extent(View.now);
    nv.position = [-camera.panX, camera.panY - middle, -DEEPER * e];  // its x runs to the left
  }

  function draw() {
    resize();
    reshape();
    const frame = stage.getBoundingClientRect();
    views.forEach((view, k) => {
      const box = view.getBoundingClientRect();
      aim(box.width, box.height);
      const [left, right] = [box.left, box.right].map((x) => (x - frame.left) / frame.width);
      const [bottom, top] = [box.bottom, box.top].map((y) => (frame.bottom - y) / frame.height);  // NiiVue counts up
      nv.opts.bounds = [[left, bottom], [right, top]];
      meshes.forEach((pair, other) => pair.forEach((mesh, s) => {
        mesh.visible = other === k && (View.now.only === null || View.now.only === s);
      }));
      nv.drawScene();
    });
  }

  /** Pixels (x, y) of all vertices of both sides in a view of this size, and their depth in mm, less is nearer.
      @param {number} width @param {number} height @returns {Projected[]} */
  function project(width, height) {
    aim(width, height);
    const camera = View.camera();
    const [m] = nv.calculateMvpMatrix(null, [0, 0, width, height], camera.azimuth, camera.elevation);
    const depth = 4 * reach(width, height);
    return places.map((points) => {
      const x = new Float32Array(Data.N), y = new Float32Array(Data.N), z = new Float32Array(Data.N);
      for (let v = 0; v < Data.N; v++) {
        const a = points[3 * v], b = points[3 * v + 1], c = points[3 * v + 2];
        x[v] = (m[0] * a + m[4] * b + m[8] * c + m[12] + 1) / 2 * width;
        y[v] = (1 - m[1] * a - m[5] * b - m[9] * c - m[13]) / 2 * height;
        z[v] = (m[2] * a + m[6] * b + m[10] * c + m[14]) * depth;
      }
      return {x, y, z};
    });
  }

  /** Millimetres of a pixel of a view of this size. @param {number} width @param {number} height */
  const mmPerPixel = (width, height) => 2 * reach(width, height) / Math.min(width, height);

  /** All brains with what lies on them as one picture; they must have been drawn in the same moment. */
  function picture() {
    const whole = Dom.make("canvas", {width: canvas.width, height: canvas.height}), context = Dom.brush(whole);
    const frame = stage.getBoundingClientRect();
    context.drawImage(canvas, 0, 0);
    context.scale(scale(), scale());
    for (const marks of /** @type {HTMLCanvasElement[]} */ (Dom.all(".marks", stage))) {
      const box = marks.getBoundingClientRect();
      context.drawImage(marks, box.left - frame.left, box.top - frame.top, box.width, box.height);
    }
    context.textAlign = "center";
    context.textBaseline = "middle";
    for (const words of Dom.all("h3, .letter, .sheet:not([hidden])", stage)) {
      const box = words.getBoundingClientRect(), style = getComputedStyle(words);
      context.font = `${style.fontWeight} ${style.fontSize} ${style.fontFamily}`;
      context.fillStyle = style.color;
      const x = (box.left + box.right) / 2 - frame.left;
      const y = (box.top + parseFloat(style.paddingTop) + box.bottom) / 2 - frame.top;
      context.fillText(words.textContent, x, y);
    }
    return whole.toDataURL("image/png");
  }

  const setFineness = (value) => { fineness = value; };

  return {start, scale, setFineness, colour, draw, project, mmPerPixel, picture, views};
})();
