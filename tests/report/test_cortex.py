"""The surfaces of the page are those of nilearn's files."""

import numpy as np

from bddn.cortex.surfaces import surface
from bddn.report.anatomy import cortex
from bddn.report.packing import unpacked


def test_surfaces_come_back_exactly() -> None:
    found = cortex()
    assert [side["hemi"] for side in found["sides"]] == ["lh", "rh"]
    faces = unpacked(found["faces"])
    for side in found["sides"]:
        expected = surface(side["hemi"])
        assert np.array_equal(faces, expected.faces)
        assert np.array_equal(unpacked(side["inflated"]), expected.inflated.astype(np.float32))
        assert np.array_equal(unpacked(side["flat"]), expected.flat.astype(np.float32))
        on_sheet = np.unpackbits(unpacked(side["sheet"]), bitorder="little")[: len(faces)].astype(bool)
        turned = np.stack([np.roll(expected.flat_faces, k, axis=1) for k in range(3)])
        flat = {tuple(face) for turn in turned for face in turn.tolist()}
        assert on_sheet.sum() == len(expected.flat_faces)
        assert all(tuple(face) in flat for face in faces[on_sheet].tolist())
        grey = unpacked(side["grey"])
        assert grey[expected.sulc < -0.5].mean() > grey[expected.sulc > 0.5].mean() + 20


def test_surfaces_are_small() -> None:
    assert sum(len(str(part)) for side in cortex()["sides"] for part in side.values()) < 700_000
