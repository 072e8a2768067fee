"""Audit the split of a run, or all images of a cache, for images that occur twice; and keep the result."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from io import BytesIO
from pathlib import Path
from typing import Any

import pandas as pd

from bddn.data import Dataset
from bddn.data.splits import PARTS
from bddn.errors import DataError, MismatchError
from bddn.evaluation.leaks.leaks import KINDS, SETTINGS, AtHand, find_pairs
from bddn.evaluation.leaks.seen_images import Fingerprints, fingerprints
from bddn.evaluation.leaks.words import sentence
from bddn.evaluation.matching import cache_of_run, dataset_of_run
from bddn.files import atomic
from bddn.identity import digest
from bddn.machine.settings import own_settings
from bddn.run.folder import Run, read_split, without_nan
from bddn.run.inputs import environment
from bddn.store.reader import Cache
from bddn.stream.global_tokens import global_tokens
from bddn.stream.loader import rows_of
from bddn.text import count, word

Images = dict[str, Fingerprints]
FOLDER, TABLE, NUMBERS, SHEET = "audit", "pairs.parquet", "audit.json", "pairs"
SHOWN = 6  # pairs in a message


@dataclass(frozen=True)
class Audited:
    """The result of an audit: pairs from `find_pairs`, and the content of `audit.json`."""

    pairs: pd.DataFrame
    numbers: dict[str, Any]

    @property
    def is_clean(self) -> bool:
        """Whether no image occurs in two parts, as far as was compared."""
        return not len(self.pairs)


@own_settings()
def audit_run(run: Run, cache: Cache | None, dataset: Dataset | None, images: Fingerprints | None = None) -> Audited:
    """Compare the images of training, validation and test of a run.

    Parameters
    ----------
    run : Run
    cache : Cache, optional
        That of the run, for its tokens.
    dataset : Dataset, optional
        That of the run, for its images.
    images : Fingerprints, optional
        Those of this dataset, if its images were already read.

    Raises
    ------
    MismatchError
        If cache, data or images are not those of the run.
    RunError
        If the run's `split.json` is missing or damaged.
    DataError
        If an image is damaged.
    """
    split = read_split(run)
    ids, parts = _members(split)
    if cache is not None:
        cache_of_run(run, [cache])
    if dataset is not None:
        dataset_of_run(run, [dataset])
        images = images or fingerprints(dataset.stimuli, ids)
        _check_images(run, dataset, images)
    return _audited(ids, parts, cache, run.layers[-1], images, _inputs(run, split))


@own_settings()
def audit_cache(cache: Cache, dataset: Dataset | None) -> Audited:
    """Compare all images of a cache with each other; with a dataset, only its images.

    Raises
    ------
    MismatchError
        If the cache lacks an image of the dataset, or has another image with the same id.
    DataError
        If an image is damaged.
    """
    ids: Sequence[str] = cache.ids
    images = None
    if dataset is not None:
        ids = dataset.stimuli.ids
        rows_of(cache, ids)
        images = fingerprints(dataset.stimuli, ids)
    inputs = {"cache_digest": cache.digest, "ids_sha256": digest(list(ids))}
    return _audited(ids, [""] * len(ids), cache, cache.layers[-1].name, images, inputs)


def write_audit(found: Audited, folder: Path) -> None:
    """Write the pairs and the numbers into a folder; existing files are replaced."""
    atomic.write_table(folder / TABLE, found.pairs, index=False)
    atomic.write_json(folder / NUMBERS, found.numbers)


def audit_before_use(run: Run, caches: Sequence[Cache], datasets: Sequence[Dataset], images: Images) -> Audited:
    """Return the audit that is in the folder of a run if it compared everything; otherwise make one and write it.

    Parameters
    ----------
    run : Run
    caches, datasets : sequence
        Those of the run are chosen from them. If there are none, the audit in the folder is returned even if it did not
        compare everything, and without one, only ids are compared.
    images : dict of str to Fingerprints
        Those of datasets whose images were read; it is filled.

    Raises
    ------
    BddnError
        As `audit_run`.
    """
    folder = run.folder / FOLDER
    kept = _read_audit(folder)
    now = {"inputs": _inputs(run, read_split(run)), "settings": SETTINGS}
    is_of_these = kept is not None and {name: kept.numbers.get(name) for name in now} == now
    if kept is not None and is_of_these and (not kept.numbers["not_compared"] or not caches):
        return kept
    if not caches:
        return audit_run(run, None, None)
    cache, dataset = cache_of_run(run, caches), dataset_of_run(run, datasets)
    if dataset.name not in images:
        images.clear()  # one dataset at a time, because its thumbnails may need much memory
        images[dataset.name] = fingerprints(dataset.stimuli, dataset.stimuli.ids)
    found = audit_run(run, cache, dataset, images[dataset.name])
    write_audit(found, folder)
    return found


def refuse_leaks(found: Audited, run: Run, allowed: bool) -> dict[str, Any]:
    """Return what an audit says about a result, for its JSON file.

    Parameters
    ----------
    found : Audited
    run : Run
    allowed : bool
        Whether the user wants the result although images are in two parts.

    Raises
    ------
    DataError
        If images are in two parts, unless this is allowed. The message names the pairs.
    """
    pairs = [
        f"{row['first_part']} '{row['first']}' and {row['second_part']} '{row['second']}' ({row['kind']})"
        for row in found.pairs.to_dict("records")
    ]
    if pairs and not allowed:
        more = f"; and {len(pairs) - SHOWN} more" if len(pairs) > SHOWN else ""
        raise DataError(
            run.folder,
            expected="every image in only one part of the split",
            got=f"{count(len(pairs), 'pair')} of images in different parts: {'; '.join(pairs[:SHOWN])}{more}",
            fix=f"Look at them with 'bddn audit {word(run.folder)} --data DATA'. Fit again without one of each, or "
            "with a split by clusters (split_by). --allow-leaks scores all the same, and notes it in the result.",
        )
    names = ("passed", "n_pairs", "n_test_images_in_pairs", "compared", "not_compared", "sentence")
    return {"allowed": bool(pairs)} | {name: found.numbers[name] for name in names}


def _read_audit(folder: Path) -> Audited | None:
    """Return the audit in a folder, or None if there is none or it is damaged."""
    try:
        numbers = json.loads((folder / NUMBERS).read_text(encoding="utf-8"))
        pairs = pd.read_parquet(BytesIO((folder / TABLE).read_bytes()))
        return Audited(pairs, numbers) if sum(numbers["n_pairs"].values()) == len(pairs) else None
    except (OSError, ValueError, KeyError, AttributeError, TypeError):
        return None


def _members(split: Mapping[str, Sequence[str]]) -> tuple[list[str], list[str]]:
    """Return the ids of all parts, and the part of each."""
    ids = [stimulus for part in PARTS for stimulus in split[part]]
    return ids, [part for part in PARTS for _ in split[part]]


def _inputs(run: Run, split: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    """Return what determines the audit of a run."""
    data = run.about["data"]
    return {
        "split_sha256": digest(split),
        "images_sha256": data.get("images_sha256"),
        "cache_digest": run.about["cache"]["digest"],
    }


def _audited(
    ids: Sequence[str],
    parts: Sequence[str],
    cache: Cache | None,
    layer: str,
    images: Fingerprints | None,
    inputs: Mapping[str, Any],
) -> Audited:
    files = tokens = None
    if cache is not None:
        files = [cache.images[row] for row in rows_of(cache, ids)]
        tokens = global_tokens(cache, cache.select_layers((layer,))[0], ids)
        if images is not None:
            _check_files(cache, ids, files, images)
    pairs, distances = find_pairs(AtHand(ids, parts, files, tokens, images))
    numbers: dict[str, Any] = {
        "n_images": {part: parts.count(part) for part in dict.fromkeys(parts)} if "" not in parts else len(ids),
        "n_pairs": {kind: int((pairs["kind"] == kind).sum()) for kind in KINDS},
        "n_test_images_in_pairs": len(
            {stimulus for side in ("first", "second") for stimulus in pairs.loc[pairs[f"{side}_part"] == "test", side]}
        ),
        "compared": ["id", *(["file"] if files or images else [])],
        "not_compared": [],
        "token_layer": layer if cache is not None else None,
        "neighbours": distances,
        "inputs": dict(inputs),
        "settings": SETTINGS,
        "versions": environment("cpu") | {"pillow": version("pillow")},
    }
    n_seen = 0 if images is None else len({*ids} & images.row_of.keys())
    if n_seen:
        numbers["compared"] += ["pixels", "perceptual hash"]
    if n_seen < len({*ids}):
        what = "without --data" if images is None else f"of {len({*ids}) - n_seen} images, whose files are not here"
        numbers["not_compared"].append(f"pixels ({what})")
    if tokens is not None:
        numbers["compared"].append(f"tokens of {layer}")
    else:
        numbers["not_compared"].append("tokens (without --cache)")
    numbers["sentence"] = sentence(numbers)
    found: dict[str, Any] = without_nan(numbers)
    return Audited(pairs, {"passed": not len(pairs)} | found)


def _check_images(run: Run, dataset: Dataset, images: Fingerprints) -> None:
    """Refuse images that are not those of the run, if all are on this machine."""
    ids, fitted = dataset.stimuli.ids, run.about["data"].get("images_sha256")
    if fitted is None or not images.files.keys() >= {*ids}:
        return
    if fitted not in [digest([hashes[one] for one in ids]) for hashes in (images.files, images.pixels)]:
        raise MismatchError(
            dataset.name,
            expected=f"the images of run '{run.folder}'",
            got="at least one other image file",
            fix="Give the --data that the run was fitted to, with the original images.",
        )


def _check_files(cache: Cache, ids: Sequence[str], files: Sequence[str], images: Fingerprints) -> None:
    known = zip(ids, files, strict=True)  # of a cache of several datasets, hashes of pixels
    different = [
        one for one, sha256 in known if sha256 not in (images.files.get(one, sha256), images.pixels.get(one, sha256))
    ]
    if different:
        raise MismatchError(
            f"image of stimulus '{different[0]}'",
            expected=f"the image in cache '{cache.files.place}'",
            got=f"another image; {len(different)} of {len(ids)} images differ",
            fix="Give the --data that was extracted.",
        )
