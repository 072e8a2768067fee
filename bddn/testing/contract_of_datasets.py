"""What every dataset keeps; see `bddn.data.dataset.Dataset`."""

from concurrent.futures import ThreadPoolExecutor
from typing import get_args

import numpy as np
import pandas as pd
import pytest

from bddn.cortex.frames import check_frame
from bddn.cortex.places import PLACE_COLUMNS, check_places, positions, space_of
from bddn.data.covariates import covariate_table
from bddn.data.dataset import About, Dataset, Trials, frame_of
from bddn.data.dataset import about as about_of
from bddn.data.dataset_check import check_rows, check_voxels
from bddn.data.trials import check_trials, has_trials, response_ids

N_IMAGES = 32  # of which the order of reading is changed
RANGES = {"depth": (0, 1), "x": (-1, 1), "y": (-1, 1), "scale": (0, 1), "ceiling": (0, 1)}  # of a planted truth


class DatasetContract:
    """Give the fixture `dataset`: an open dataset, small or not."""

    @pytest.fixture
    def dataset(self) -> Dataset:
        raise NotImplementedError("expected a fixture 'dataset' in the class that inherits from DatasetContract")

    def test_ids_are_unique_texts_and_each_has_an_image(self, dataset: Dataset) -> None:
        stimuli = dataset.stimuli
        assert all(isinstance(stimulus, str) and stimulus for stimulus in stimuli.ids)
        assert len(set(stimuli.ids)) == len(stimuli.ids) == len(stimuli.paths) > 0
        for i in {0, len(stimuli) - 1}:
            assert stimuli.image(i).mode == "RGB"

    def test_an_image_is_the_same_in_any_order_and_from_several_threads(self, dataset: Dataset) -> None:
        stimuli = dataset.stimuli
        rows = list(range(min(N_IMAGES, len(stimuli))))
        pixels = [stimuli.pixels_sha256(i) for i in rows]
        files = [stimuli.sha256(i) for i in rows]
        with ThreadPoolExecutor(8) as pool:
            assert list(pool.map(stimuli.pixels_sha256, [*rows[::-1], *rows])) == [*pixels[::-1], *pixels]
            assert list(pool.map(stimuli.sha256, rows[::-1])) == files[::-1]

    def test_responses_are_finite_float32_of_images_and_voxels(self, dataset: Dataset) -> None:
        responses = dataset.responses()
        assert responses.dtype == np.float32
        assert responses.shape == (len(response_ids(dataset)), len(dataset.voxels()))
        assert np.isfinite(responses).all()

    def test_rows_of_responses_are_those_of_the_ids(self, dataset: Dataset) -> None:
        every, n = dataset.responses(), len(response_ids(dataset))
        shuffled = np.random.default_rng(0).permutation(n)[:50]
        for rows in (shuffled, np.sort(shuffled), np.array([n - 1, 0, n - 1])):
            np.testing.assert_array_equal(dataset.responses(rows), every[rows])
        check_rows(dataset, len(dataset.voxels()))

    def test_each_response_row_is_of_an_image_and_each_image_has_one(self, dataset: Dataset) -> None:
        check_trials(dataset)
        if has_trials(dataset):
            assert isinstance(response_ids(dataset), tuple)
            assert about_of(dataset).trials == "single"

    def test_covariates_are_numbers_with_a_row_for_each_response(self, dataset: Dataset) -> None:
        table = covariate_table(dataset)
        if table is not None:
            assert table.columns.is_unique
            assert all(isinstance(name, str) and name for name in table)

    def test_voxels_have_places_and_their_columns(self, dataset: Dataset) -> None:
        voxels = dataset.voxels()
        assert {"hemi", "vertex", "roi", "ceiling"} <= set(voxels.columns)
        assert list(voxels.index) == list(range(len(voxels))) != []
        check_places("voxels", voxels)
        check_frame(voxels, frame_of(dataset))
        check_voxels(dataset)
        pd.testing.assert_frame_equal(dataset.voxels(), voxels)
        ceiling = voxels["ceiling"]
        assert pd.api.types.is_float_dtype(ceiling)
        assert (ceiling.isna() | ceiling.between(0, 1)).all()
        for atlas in set(voxels.columns) - {*PLACE_COLUMNS, "ceiling"}:
            assert voxels[atlas].map(lambda label: isinstance(label, str)).all(), atlas

    def test_positions_are_finite_and_one_per_voxel(self, dataset: Dataset) -> None:
        coords = dataset.coords_mm()
        assert coords.dtype == np.float32
        assert coords.shape == (len(dataset.voxels()), 3)
        assert np.isfinite(coords).all()
        space = space_of(dataset.voxels())
        if space != "fsaverage":
            np.testing.assert_array_equal(coords, positions(dataset.voxels()))
        if space != "points":
            assert len(np.unique(coords, axis=0)) == len(coords)

    def test_it_says_what_it_is(self, dataset: Dataset) -> None:
        about = about_of(dataset)
        assert isinstance(about, About)
        assert dataset.name.startswith(f"{about.name}:")
        assert about.usage.startswith(f"{about.name}:")
        for sentence in (about.responses, about.terms):
            assert sentence.endswith(".")
        assert all(isinstance(reference, str) and reference for reference in about.references)
        assert about.trials in get_args(Trials)

    def test_a_truth_has_a_row_for_each_voxel(self, dataset: Dataset) -> None:
        truth = dataset.truth()
        if truth is None:
            return
        assert list(truth.index) == list(dataset.voxels().index)
        for name, (low, high) in RANGES.items():
            assert truth[name].between(low, high).all(), name
