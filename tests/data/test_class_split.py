"""As many training images of every class, groups kept together, and images left to evaluate on, whatever the set."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bddn.data.dataset import Stimuli
from bddn.data.image_sets.class_split import ClassSplit, class_split, largest_per_class
from bddn.data.image_sets.labelled import LabelledImages
from bddn.errors import DataError


def image_set(labels: list[int], groups: list[str] | None = None) -> LabelledImages:
    """An image set of these classes and groups, whose files do not exist."""
    ids = tuple(f"image {i}" for i in range(len(labels)))
    classes = tuple(f"class {k}" for k in range(max(labels) + 1))
    stimuli = Stimuli(ids, tuple(Path(one) for one in ids))
    return LabelledImages("folder:x", stimuli, np.array(labels), classes, None if groups is None else tuple(groups))


def ids_of(images: LabelledImages, split: ClassSplit) -> list[list[str]]:
    return [[images.stimuli.ids[row] for row in rows] for rows in (split.train, split.test)]


@st.composite
def image_sets(draw: st.DrawFn) -> LabelledImages:
    """Sets of two to four classes, imbalanced, without groups or with groups that may contain several classes."""
    rows = st.lists(st.tuples(st.integers(0, draw(st.integers(1, 3))), st.integers(0, 12)), min_size=2, max_size=60)
    drawn = draw(rows)
    labels = [k for k, _ in drawn]
    labels += [k for k in range(max([*labels, 1]) + 1) if k not in labels]
    groups = [f"lesion {g}" for _, g in drawn] + [f"single {k}" for k in range(len(labels) - len(drawn))]
    return image_set(labels, draw(st.sampled_from([groups, None])))


@given(image_sets(), st.integers(0, 2**32), st.data())
@settings(max_examples=60, deadline=None, derandomize=True)
def test_any_set_is_split_into_classes_of_one_size_without_a_shared_group(
    images: LabelledImages, seed: int, data: st.DataObject
) -> None:
    largest = largest_per_class(images, seed)
    for refused in (0, largest + 1, largest + 5):
        with pytest.raises(DataError, match=f"--per-class {largest}, or less" if largest else "Add images"):
            class_split(images, refused, seed)
    if not largest:
        return
    n = data.draw(st.integers(1, largest))
    found = class_split(images, n, seed)
    n_classes = len(images.classes)
    assert np.bincount(images.labels[found.train], minlength=n_classes).tolist() == [n] * n_classes
    assert np.bincount(images.labels[found.test], minlength=n_classes).min() > 0
    groups = images.stimuli.ids if images.groups is None else images.groups
    assert not {groups[row] for row in found.train} & {groups[row] for row in found.test}
    train = {groups[row] for row in found.train}
    rest = {row for row in range(len(images)) if groups[row] not in train}
    assert rest == set(found.test.tolist())  # nothing is lost but images of groups that are trained on

    few = class_split(images, n, seed, most_test=1)
    assert few.train.tolist() == found.train.tolist()
    assert set(few.test.tolist()) <= set(found.test.tolist())
    assert np.bincount(images.labels[few.test]).tolist() == [1] * n_classes

    order = np.random.default_rng(seed).permutation(len(images))
    other = LabelledImages(
        "csv:y",
        Stimuli(tuple(images.stimuli.ids[i] for i in order), tuple(images.stimuli.paths[i] for i in order)),
        images.labels[order],
        images.classes,
        None if images.groups is None else tuple(images.groups[i] for i in order),
    )
    assert ids_of(other, class_split(other, n, seed)) == ids_of(images, found)


def test_every_image_is_drawn_equally_often() -> None:
    images = image_set([0] * 10 + [1] * 4)
    drawn = np.zeros(14)
    for seed in range(400):
        drawn[class_split(images, 3, seed).train] += 1
    assert np.abs(drawn[:10] - 120).max() < 40  # 5 standard deviations of a binomial: 46
    assert np.abs(drawn[10:] - 300).max() < 40


def test_a_class_with_too_few_images_is_named_with_its_count() -> None:
    images = image_set([0] * 30 + [1] * 7 + [2] * 50)
    with pytest.raises(DataError, match=r"got 7 of class 'class 1'. Use --per-class 6, or less") as caught:
        class_split(images, 10, 0)
    assert "class 0" not in str(caught.value)


def test_a_class_of_which_no_image_would_be_left_is_refused() -> None:
    with pytest.raises(DataError, match="at least one more to evaluate on; got 7 of class 'class 1'"):
        class_split(image_set([0] * 30 + [1] * 7), 7, 0)
    with pytest.raises(DataError, match=r"images of one group stay together. Add images"):
        class_split(image_set([0] * 3 + [1] * 7, [*"abc", *"ddddddd"]), 1, 0)
