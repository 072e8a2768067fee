"use strict";
/* The voxels that are predicted best. One without a score (NaN) is chosen only where no other has one. */

const Best = (() => {
  /** @param {Scored | null | undefined} best @param {number} score */
  const isBetter = (best, score) => !best || score > best.score || (Number.isNaN(best.score) && !Number.isNaN(score));

  /** The best voxel of a run, or null where it has none. @param {Run} run */
  function of(run) {
    let best = /** @type {Scored | null} */ (null);
    for (let i = 0; i < run.count; i++) {
      const score = run.numbers.r2_test[i];
      if (isBetter(best, score)) best = {score, side: run.side[i], vertex: run.vertex[i]};
    }
    return best;
  }

  /** The best voxel of each region over some runs, by the region's name. @param {Run[]} runs */
  function ofRegions(runs) {
    const found = /** @type {Map<string, Scored>} */ (new Map());
    for (const run of runs) {
      const region = run.words.roi;
      for (let i = 0; region && i < run.count; i++) {
        const name = region.names[region.code[i]], score = run.numbers.r2_test[i];
        if (!name || !isBetter(found.get(name), score)) continue;
        found.set(name, {score, side: run.side[i], vertex: run.vertex[i]});
      }
    }
    return found;
  }

  return {of, ofRegions};
})();
