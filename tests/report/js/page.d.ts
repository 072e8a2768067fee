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

type Numbers = Uint8Array | Uint16Array | Uint32Array | Int16Array | Float32Array;

/** Responses in 8 bits: low + step * code. */
interface Coded {
  low: Numbers; // (V,)
  step: Numbers; // (V,)
  codes: Numbers; // (V, m)
}

interface Answered {
  ids: string[]; // (M,), of the test images
  kept: Numbers; // (m,), test images whose responses the page has
  measured: Coded;
  predicted: Coded;
  lists: Numbers; // (V, 3, K): test images that a voxel answers most, least, and is predicted to answer most
  listed: Record<string, Numbers>; // their codes, (V, 3, K), as `measured` and `predicted`
  n: number; // K
  r: Numbers; // (V,)
  low: Numbers; // (V,), of the interval of R²
  high: Numbers; // (V,)
  picture: Numbers; // (M,), index of the thumbnail
  why: string; // there are no thumbnails
}

interface Answer {
  image: number;
  measured: number;
  predicted: number;
}

/** What an address says of the view. */
interface Told {
  map: string;
  voxel: Voxel | null;
  view: Record<string, number>;
  only: number | null;
  threshold: number;
  of: string;
  frame: number | null;
  outlines: boolean;
  all: boolean;
}

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
  answers: Answered | null;
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
  link: HTMLButtonElement;
  "link-field": HTMLInputElement;
  "link-words": HTMLOutputElement;
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
  "threshold-of": HTMLSelectElement;
  "threshold-words": HTMLOutputElement;
  trouble: HTMLElement;
  vertex: HTMLInputElement;
}

declare const niivue: any;
