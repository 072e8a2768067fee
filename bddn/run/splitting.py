"""The split of a fit: a function of its settings, the stimulus ids, and the cache or the file that they name."""

from collections.abc import Sequence
from pathlib import Path

from bddn.data.categories import read_categories
from bddn.data.splits import Split, split_by_group, split_by_id, split_in_file, split_off
from bddn.errors import SpecError
from bddn.files.paths import expand_home
from bddn.spec import FitSpec, SplitBy
from bddn.stats.clusters import image_clusters
from bddn.store.reader import Cache
from bddn.stream.global_tokens import global_tokens


def split_of(spec: FitSpec, ids: Sequence[str], store: Cache) -> Split:
    """Return the split that the settings of a fit ask for.

    Parameters
    ----------
    spec : FitSpec
        Its fields `split`, `split_by`, `split_seed`, `seed` and `layers`.
    ids : sequence of str
        Stimulus ids, in any order.
    store : Cache
        Its global tokens are read if images are grouped by them.

    Raises
    ------
    BddnError
        If the cache lacks a stimulus or the layer, the table is wrong, or a part would be too small.
    """
    by, shares, seed = spec.split_by, spec.split, spec.seed_of_split
    if by is None:
        return split_by_id(ids, shares, seed)
    ordered = sorted(ids)
    if by.file is not None:
        return split_in_file(Path(expand_home(by.file)), ordered)
    if by.categories is None:
        groups = _clusters(by, spec.layers, ordered, store)
    else:
        groups = read_categories(Path(expand_home(by.categories)), ordered)
        if by.test is not None:
            _check_categories(by.test, groups, by.categories)
            chosen = [one for one, group in zip(ordered, groups, strict=True) if group in by.test]
            return split_off(ordered, chosen, shares, seed)
    return split_by_group(dict(zip(ordered, groups, strict=True)), shares, seed)


def in_words(spec: FitSpec, split: Split) -> str:
    """Return the kind and the sizes of a split in words."""
    by = spec.split_by
    if by is None:
        kind = "by image"
    elif by.clusters is not None:
        kind = f"by {by.clusters} clusters of images"
    elif by.file is not None:
        kind = f"as in {by.file}"
    else:
        kind = "by category" if by.test is None else f"test images of {', '.join(by.test)}"
    return f"split: {kind}; {len(split.train)} train, {len(split.val)} validate, {len(split.test)} test"


def _clusters(by: SplitBy, layers: tuple[str, ...] | None, ids: Sequence[str], store: Cache) -> tuple[str, ...]:
    assert by.clusters is not None
    layer = store.select_layers(layers if by.layer is None else (by.layer,))[-1]
    return tuple(str(k) for k in image_clusters(global_tokens(store, layer, ids), by.clusters))


def _check_categories(wanted: Sequence[str], groups: Sequence[str], place: str) -> None:
    known = sorted(set(groups))
    unknown = [name for name in wanted if name not in known]
    if unknown:
        raise SpecError(
            f"split_by.test: '{unknown[0]}'",
            expected=f"categories of the images in {place}: {', '.join(known)}",
            got="no image of this category",
            fix="Correct the name.",
        )
