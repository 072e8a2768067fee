/* What the scripts of the page hand to each other. V voxels, L layers, F frames, W voxels of a film. */

interface Film {
  step: number[];
  loss: (number | null)[];
  frames: number;
  drawn: Numbers; // (W,)
  layer: Numbers; // (F, W)
  confidence: Numbers; // (F, W), 0 to 255
  place: Numbers; // (F, W, 2), 0 to 255
  scale: Numbers; // (F, W), 0 to 255
}

type Numbers = Uint8Array | Uint16Array | Int16Array | Float32Array;

interface Run {
  title: string;
  label: string;
  layers: string[];
  own: string[];
  shared: string;
  total: number;
  count: number; // V
  side: Numbers; // (V,)
  vertex: Numbers; // (V,)
  layer: Numbers; // (V,), L for none
  evident: Numbers; // (V,), 0 for a voxel without evidence
  numbers: Record<string, Numbers>;
  words: Record<string, { names: string[]; code: Numbers }>;
  similar: { row: Numbers; cosine: Numbers; n: number };
  film: Film | null;
  at: [Int32Array, Int32Array];
}

interface CortexMap {
  name: string;
  title: string;
  heading: string;
  group: string;
  kind: "layer" | "ramp" | "place" | "class";
  columns: string[];
  selection: boolean; // whether it shows what voxels select, and not how well they are predicted
  lookup: any; // Numbers; for kind 'layer' one for each run
  top: number;
  low: number;
  high: number;
  label: string;
  ends: string[];
  beyond: boolean[];
  reach: number;
  names: string[];
}

interface Side {
  hemi: string;
  inflated: Numbers;
  flat: Numbers;
  sheet: Numbers;
  grey: Numbers;
}

interface Voxel {
  side: number;
  vertex: number;
}

interface Scored extends Voxel {
  score: number;
}

interface Projected {
  x: Float32Array;
  y: Float32Array;
  z: Float32Array;
}

/** A function that writes the colour of a voxel's row, and is false where it has none. */
type Paint = (row: number, to: Numbers | number[], at: number) => boolean;
type InSight = (side: number, vertex: number) => boolean;

interface Ids {
  all: HTMLInputElement;
  canvas: HTMLCanvasElement;
  caption: HTMLElement;
  cards: HTMLElement;
  data: HTMLElement;
  evidence: HTMLElement;
  "evidence-words": HTMLElement;
  film: HTMLElement;
  find: HTMLFormElement;
  fold: HTMLButtonElement;
  found: HTMLElement;
  frame: HTMLInputElement;
  "frame-words": HTMLOutputElement;
  legend: HTMLElement;
  map: HTMLSelectElement;
  missing: HTMLElement;
  outlines: HTMLInputElement;
  play: HTMLButtonElement;
  print: HTMLImageElement;
  region: HTMLSelectElement;
  shape: HTMLInputElement;
  "shape-words": HTMLOutputElement;
  side: HTMLSelectElement;
  stage: HTMLElement;
  threshold: HTMLInputElement;
  "threshold-words": HTMLOutputElement;
  trouble: HTMLElement;
  vertex: HTMLInputElement;
}

declare const niivue: any;
