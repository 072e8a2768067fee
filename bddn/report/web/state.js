"use strict";
/* What the reader has chosen. A voxel is a {side, vertex}, the same for all runs. */

const State = {
  map: Data.maps[0],
  threshold: -Infinity,
  of: "r2_test",  // the number that the threshold is for
  pinned: /** @type {Voxel | null} */ (null),
  hover: /** @type {Voxel | null} */ (null),
  frame: /** @type {number | null} */ (null),  // of the film; null is the fitted encoder
  outlines: true,
  all: false,  // whether voxels without evidence are shown, too

  /** Whether a voxel of a run reaches the threshold. @param {Run} run @param {number} row */
  passes(run, row) {
    return this.threshold === -Infinity || run.numbers[this.of]?.[row] >= this.threshold;
  },

  /** Whether a voxel's selection is shown as one without evidence. @param {Run} run @param {number} row */
  isVeiled(run, row) {
    return !this.all && !run.evident[row];
  },

  /** The frame of a run's own film, of which there may be more or fewer than of other runs'; -1 for none.
      @param {Run} run @param {number} n */
  frameOf(run, n) {
    if (this.frame === null || !run.film) return -1;
    return n < 2 ? 0 : Math.round(this.frame / (n - 1) * (run.film.step.length - 1));
  },
};
