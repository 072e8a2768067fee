"""The average of several runs, of seeds or subjects, matched by voxel; and how far the runs agree."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd

from bddn.cortex.places import COORDINATES, keys_of, on_mesh, place_columns, space_of
from bddn.errors import DataError
from bddn.stats.evidence import is_tested, q_values
from bddn.stats.hierarchy import confidence, depth, depth_spread
from bddn.stats.scores import labels_of

AVERAGED = ("r2_val", "r2_test", "x", "y", "scale", "size", "ceiling")
SPREAD = ("r2_test", "depth", "x", "y", "scale", "size")  # columns whose standard deviation over runs is given
APART = 0.5  # standard deviation of x or y over runs, above which their mean is no place that any run selects


def like(table: pd.DataFrame, mean: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of an average for the voxels of a table, in its order."""
    keys = keys_of(table)
    return mean.set_index(keys).loc[pd.MultiIndex.from_frame(table[keys])].reset_index()


def matched(tables: Sequence[pd.DataFrame]) -> list[pd.DataFrame]:
    """Return tables in which the same voxel has the same keys (`cortex.places.keys_of`).

    Voxels of one subject are matched as they are. Surfaces of several subjects are matched on fsaverage7, each of whose
    vertices has the values of the nearest native voxel, if one is within 3 mm.

    Raises
    ------
    DataError
        If points are at different places, or beside surfaces: they have no place in common.
    """
    if _have_equal_keys(tables):
        return list(tables)
    spaces = {space_of(table) for table in tables}
    if "points" in spaces:
        raise DataError(
            "runs",
            expected="voxels that have a place in common: the same points, or surfaces",
            got="points at other coordinates" if len(spaces) == 1 else f"{' and '.join(sorted(spaces))}",
            fix="Give runs of one subject, or data on a surface.",
        )
    return [on_mesh(table, "fsaverage7").reset_index(drop=True) for table in tables]


def can_match(tables: Sequence[pd.DataFrame]) -> bool:
    """Return whether voxels of these tables have a place in common, which `matched` needs."""
    return _have_equal_keys(tables) or not any(space_of(table) == "points" for table in tables)


def _have_equal_keys(tables: Sequence[pd.DataFrame]) -> bool:
    """Return whether the same voxel has the same keys in all tables as they are."""
    spaces = {space_of(table) for table in tables}
    if len(spaces) > 1 or spaces == {"fsaverage"}:
        return len(spaces) == 1
    keys = keys_of(tables[0])
    places = pd.concat([table[[*keys, *COORDINATES]] for table in tables], ignore_index=True).drop_duplicates()
    return not places.duplicated(keys).any()


def average(tables: Sequence[pd.DataFrame], layers: Sequence[str]) -> pd.DataFrame:
    """Average the layer weights, places, scales and scores of several voxel tables.

    Layer, depth and confidence are computed from the mean weights. Voxels are matched by `matched`. A voxel that only
    some runs have is the mean over these runs; `n_runs` is their number.

    Parameters
    ----------
    tables : sequence of DataFrame
        Voxel tables of runs with the same layers.
    layers : sequence of str, (L,)
        Names of the layers, from early to late.

    Returns
    -------
    DataFrame, one row per voxel that any run has
        `roi` and the atlases' labels are the most frequent names among the runs; of equally frequent names, the first
        in the alphabet. `agreement` is that of `layer_agreement`. `depth_sd`, `x_sd` and so on are sample standard
        deviations over runs, NaN for a single run. `x` and `y` are NaN where one of them has a standard deviation above
        0.5: the mean of a place on the left and one on the right would be in the centre, where no run looks. If all
        tables have a test of evidence, `p_test` is twice the mean over runs, which is a valid p-value for dependent
        tests, as of seeds (Rüschendorf, Advances in Applied Probability 1982), and `q_test` is computed from it.

    Raises
    ------
    DataError
        If a table lacks a layer.
    """
    weights = [f"weight_{layer}" for layer in layers]
    for i, table in enumerate(tables, 1):
        if missing := [name for name in weights if name not in table]:
            raise DataError(
                f"run {i} of {len(tables)}",
                expected="the layers of the first run",
                got=f"a run without {missing[0].removeprefix('weight_')}",
                fix="Give only runs of one network with the same layers.",
            )
    tables = matched(tables)
    together = pd.concat(tables, ignore_index=True)
    keys = keys_of(together)
    groups = together.groupby(keys, sort=True)
    out = groups[[*weights, *(name for name in AVERAGED if name in together)]].mean()
    spread = groups[[name for name in SPREAD if name in together]].std().add_suffix("_sd")
    out = out.join(spread)
    out["n_runs"] = groups.size()
    for column in map(str, labels_of(together)):
        out = out.join(_most_frequent(together, column))
    if more := [name for name in place_columns(together) if name not in keys]:
        out = out.join(groups[more].first())
    if all(is_tested(table) for table in tables):
        out["p_test"] = (groups["p_test"].mean() * np.where(out["n_runs"] > 1, 2, 1)).clip(upper=1)
        out["q_test"] = q_values(out["p_test"].to_numpy())
    row = groups.ngroup().to_numpy()
    out = out.reset_index()
    chosen = np.full((len(tables), len(out)), -1)
    run = np.repeat(np.arange(len(tables)), [len(table) for table in tables])
    chosen[run, row] = pd.Categorical(together["layer_argmax"], categories=list(layers)).codes
    mean = out[weights].to_numpy(dtype=np.float64)
    out["layer_argmax"] = np.array(list(layers), dtype=object)[mean.argmax(axis=1)]
    out["depth"], out["confidence"], out["agreement"] = depth(mean), confidence(mean), layer_agreement(chosen)
    out["depth_spread"] = depth_spread(mean)
    out.loc[(out[["x_sd", "y_sd"]] > APART).any(axis=1), ["x", "y"]] = np.nan
    return out


def average_differences(table: pd.DataFrame) -> pd.DataFrame:
    """Average the differences between two models over subjects, matched by voxel.

    Parameters
    ----------
    table : DataFrame, one row per subject, pair of models and voxel
        With `subject`, `first` and `second`, where voxels lie, `r2_difference`, `depth_difference`, `p` (two-sided, of
        the difference of R²) and `evident` (bool).

    Returns
    -------
    DataFrame, one row per pair and voxel that any subject has
        Means over the subjects that have the voxel, their number `n_runs`, and sample standard deviations `…_sd`.
        `evident` is true where it is in any subject. `p` is valid for dependent subjects, who may have seen the same
        images: twice the mean over subjects of the p-values of each direction (Rüschendorf, Advances in Applied
        Probability 1982), and twice the smaller of both. `q` is computed from it within each pair.
    """
    if space_of(table) != "fsaverage":
        own = ["subject", "first", "second"]
        table = pd.concat(matched([one for _, one in table.groupby(own, sort=False)]), ignore_index=True)
    place = keys_of(table)
    keys, means = ["first", "second", *place], ["r2_difference", "depth_difference"]
    half, is_up = table["p"] / 2, table["r2_difference"] > 0
    table = table.assign(up=half.where(is_up, 1 - half), down=(1 - half).where(is_up, half))
    groups = table.groupby(keys, sort=True)
    out = groups[means].mean().join(groups[means].std().add_suffix("_sd"))
    out["n_runs"], out["evident"] = groups.size(), groups["evident"].any()
    factor = np.where(out["n_runs"] > 1, 4, 2)
    out["p"] = (groups[["up", "down"]].mean().min(axis=1) * factor).clip(upper=1)
    labels = labels_of(table.drop(columns=["first", "second", "subject"], errors="ignore"))
    for column in map(str, labels):
        out = out.join(_most_frequent(table, column), on=place)
    if more := [name for name in place_columns(table) if name not in place]:
        out = out.join(table.groupby(place)[more].first(), on=place)
    out = out.reset_index()
    out["q"] = out.groupby(["first", "second"], sort=False)["p"].transform(lambda p: q_values(p.to_numpy()))
    return out


def layer_agreement(chosen: npt.NDArray[np.integer]) -> npt.NDArray[np.float64]:
    """Return for each voxel the share of pairs of runs that select the same layer; NaN with fewer than two runs.

    Parameters
    ----------
    chosen : array of int, (R, N)
        Number of the layer with the highest weight of R runs in N voxels; -1 if a run lacks the voxel.

    Returns
    -------
    array of float64, (N,)
        From 0 (all runs differ) to 1 (all agree). Runs that select one of L layers at random agree in 1/L of pairs.
    """
    n = (chosen >= 0).sum(0)
    counts = np.stack([(chosen == layer).sum(0) for layer in range(int(chosen.max(initial=0)) + 1)])
    same = (counts * (counts - 1)).sum(0)
    return np.where(n > 1, same / np.maximum(n * (n - 1), 1), np.nan)


def _most_frequent(voxels: pd.DataFrame, column: str) -> pd.DataFrame:
    """Return the most frequent text of a column for each voxel."""
    keys = keys_of(voxels)
    names = voxels[keys].assign(**{column: voxels[column].fillna("").astype(str)})
    counts = names.groupby([*keys, column], as_index=False).size()
    first = counts.sort_values(["size", column], ascending=[False, True]).drop_duplicates(keys)
    return first.set_index(keys)[[column]]
