"""Sort runs into models and subjects, and refuse runs whose scores cannot be compared.

A model is a network (spec and weights of its cache), the layers, and the settings of the fit without its seeds. Runs
that differ only in their seeds are repeated fits of one model, also in the seed of the noise in the latents of their
caches; an ensemble of fits is another model. If there is only one model, its fits are compared.

A subject is what was measured: voxels, images and responses.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from bddn.errors import DataError
from bddn.identity import PROBE, Identity, digest
from bddn.many.plan import VARIED
from bddn.run.folder import ENSEMBLE, NOISE_SEED, Run, labels, read_split

SEEDS = (*VARIED, "split_seed")  # fields of the spec in which the fits of one model may differ
SAME_DATA: Mapping[str, str] = {
    "voxels_sha256": "voxels",
    "stimuli_sha256": "stimuli",
    "responses_sha256": "responses",
    "images_sha256": "images",
    "response_ids_sha256": "images of the responses",
}
"""What identifies the data of a run, and its name in messages."""


@dataclass(frozen=True)
class Rivals:
    """The fits of several models to one subject, all with the same test images.

    Attributes
    ----------
    subject : str
    models : mapping of str to tuple of Run
        At least two; one fit or several of each.
    """

    subject: str
    models: Mapping[str, tuple[Run, ...]]

    @property
    def first(self) -> Run:
        """The first run."""
        return next(iter(self.models.values()))[0]


def sort_runs(runs: Sequence[Run]) -> list[Rivals]:
    """Sort runs by subject and model, in the order in which these are first given.

    Raises
    ------
    DataError
        If a run is given twice, there is only one run of a subject, a model was not fitted to all subjects, or runs of
        a subject have other test images.
    """
    check_different(runs)
    subjects = grouped(runs, _subject)
    models = grouped(runs, lambda run: _model(run, SEEDS))
    if len(models) == 1:
        models = grouped(runs, lambda run: _model(run, ()))
    names, model_names = names_of(subjects, _subject_title), names_of(models, cache_name)
    found = []
    for subject, of_subject in zip(names, subjects, strict=True):
        fits = {
            name: tuple(run for run in of_model if any(run is one for one in of_subject))
            for name, of_model in zip(model_names, models, strict=True)
        }
        missing = [name for name, own in fits.items() if not own]
        if missing or len(fits) < 2:
            raise _incomplete(subjects, of_subject, missing)
        check_same_test(of_subject)
        found.append(Rivals(subject, fits))
    return found


def check_same_test(runs: Sequence[Run]) -> None:
    """Check that all runs predict the same responses of the same voxels to the same test images, and that none of them
    was trained on a test image of another. Otherwise differences of scores are not differences of networks.

    Raises
    ------
    DataError
    """
    first = runs[0]
    for run in runs[1:]:
        other = other_data(run, first)
        tests = [set(read_split(each)["test"]) for each in (run, first)]
        if tests[0] != tests[1]:
            other.append(f"test images, of which {len(tests[0] & tests[1])} of {len(tests[1])} are the same")
        if _taken_out(run) != _taken_out(first):
            other.append("covariates taken out of the responses, or training images that estimate them")
        if other:
            raise DataError(
                run.folder,
                expected=f"the data and test images of {first.folder}, because scores are compared",
                got=f"a run with other {', '.join(other)}",
                fix="Give runs of one subject with the same seed, or with the same split_seed, and the same split and "
                "covariates.",
            )


def other_data(run: Run, first: Run) -> list[str]:
    """Return in words in what the data of two runs differ."""
    data = run.about["data"], first.about["data"]
    return [what for key, what in SAME_DATA.items() if data[0].get(key) != data[1].get(key)]


def _taken_out(run: Run) -> tuple[set[str], object, set[str]] | None:
    """Return what determines the part of covariates that the responses of a run lack; None if they lack none."""
    names = run.about["fit"].get("covariates")
    return (set(names), run.about["data"].get("covariates_sha256"), set(read_split(run)["train"])) if names else None


def cache_name(run: Run) -> str:
    """Return the name that the cache of a run had."""
    return str(run.metrics["title"]).rpartition(" through ")[2]


def check_different(runs: Sequence[Run]) -> None:
    """Refuse a run that is given twice, also as a copy: it would count as two fits that agree.

    Raises
    ------
    DataError
    """
    seen: dict[str, Run] = {}
    for run in runs:
        first = seen.setdefault(_content(run), run)
        if first is not run:
            got = f"a copy of '{first.folder}'" if is_copy(run, first) else "this one twice"
            raise DataError(run.folder, expected="different runs", got=got, fix="Give each run once.")


def is_copy(run: Run, other: Run) -> bool:
    """Return whether two folders hold one and the same fit, e.g. because the second was fitted again."""
    return _content(run) == _content(other) and run.folder.resolve() != other.folder.resolve()


def _content(run: Run) -> str:
    return Identity(run.about).digest()


def _incomplete(subjects: Sequence[Sequence[Run]], of_subject: Sequence[Run], missing: Sequence[str]) -> DataError:
    """Return the error for a subject that lacks a model, or has only one."""
    run, first = of_subject[0], subjects[0][0]
    if run is first and len(subjects) > 1:
        run = subjects[1][0]
    if run is first:
        return DataError(run.folder, expected="two runs or more", got="one", fix="Give runs of several models.")
    return DataError(
        run.folder,
        expected="every model fitted to the data of every subject, because scores are compared voxel by voxel",
        got=f"a run with other {', '.join(other_data(run, first))} than {first.folder}"
        + (f", and no run of {' and '.join(missing)} on the data of {of_subject[0].folder}" if missing else ""),
        fix="Fit all models to the same --data, e.g. with 'bddn fit-many', or give the runs of one subject.",
    )


def _subject(run: Run) -> str:
    return digest({key: run.about["data"].get(key) for key in SAME_DATA})


def _model(run: Run, varied: Sequence[str]) -> str:
    about = run.about
    fit = {field: value for field, value in about["fit"].items() if field not in varied}
    spec, backbone = (about["cache"].get(key) for key in ("spec", "backbone"))
    if isinstance(backbone, dict):  # numbers that depend on the machine do not make another network
        apart = (PROBE, NOISE_SEED) if varied else (PROBE,)
        backbone = {key: value for key, value in backbone.items() if key not in apart}
    what = {"fit": fit, "spec": spec, "backbone": backbone, "layers": list(run.layers), ENSEMBLE: ENSEMBLE in about}
    return digest(what)


def grouped(runs: Sequence[Run], key: Callable[[Run], str]) -> list[list[Run]]:
    """Return the runs in groups of equal keys, in the order in which these are first given."""
    found: dict[str, list[Run]] = {}
    for run in runs:
        found.setdefault(key(run), []).append(run)
    return list(found.values())


def names_of(groups: Sequence[Sequence[Run]], title: Callable[[Run], str]) -> list[str]:
    """Return a name for each group of runs: the parts of their folder paths that all of the group share and that differ
    between groups, or else a title."""
    every = [run for group in groups for run in group]
    path = dict(zip((id(run) for run in every), labels([run.folder for run in every]), strict=True))
    parts = [[path[id(run)].split("/") for run in group] for group in groups]
    depth = min(len(one) for group in parts for one in group)
    own = [[group[0][i] if len({one[i] for one in group}) == 1 else "" for i in range(depth)] for group in parts]
    told = [i for i in range(depth) if all(names[i] for names in own) and len({names[i] for names in own}) > 1]
    names = ["/".join(names[i] for i in told) for names in own]
    if len(set(names)) < len(groups) or not told:
        names = [title(group[0]) for group in groups]
    again = {name for name in names if names.count(name) > 1}
    return [f"{name} ({i})" if name in again else name for i, name in enumerate(names, 1)]


def _subject_title(run: Run) -> str:
    """Return the last part of the name of a dataset."""
    return re.split("[/:]", str(run.metrics["title"]).rpartition(" through ")[0].rstrip("/"))[-1]
