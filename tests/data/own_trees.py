"""Folders of a lab's own data, one of each kind that docs/own_data.md describes, with the same responses in each."""

import csv
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import nibabel
import nibabel.freesurfer
import numpy as np
import pandas as pd
from nibabel.gifti import gifti
from PIL import Image

import fenced_code
from bddn.cortex.fsaverage import sphere

FREESURFER: Any = nibabel.freesurfer
DOCS = Path(__file__).parents[2] / "docs" / "own_data.md"
AREAS = ("V1", "V2", "hV4")
N_MESH = 10_242  # vertices of fsaverage5, and of the native surface, which is this sphere, a little turned
AFFINE = np.array([[-2.0, 0, 0, 20], [0, 2, 0, -90], [0, 0, 2, -10], [0, 0, 0, 1]])
STRUCTURES = ("CIFTI_STRUCTURE_CORTEX_LEFT", "CIFTI_STRUCTURE_CORTEX_RIGHT")


@dataclass(frozen=True)
class Lab:
    """What a lab measured: images, responses (images, voxels), the first `n_left` of them left, and their vertices."""

    pictures: Mapping[str, Path]
    responses: np.ndarray
    n_left: int
    vertex: np.ndarray

    @property
    def sides(self) -> dict[str, slice]:
        return {"lh": slice(self.n_left), "rh": slice(self.n_left, None)}

    @property
    def areas(self) -> list[str]:
        """The area of each voxel, or ''."""
        return [("", *AREAS)[i % 4] for i in range(self.responses.shape[1])]

    @property
    def numbers(self) -> np.ndarray:
        """The areas as numbers: 0 for none."""
        return np.arange(self.responses.shape[1]) % 4

    @property
    def ceilings(self) -> np.ndarray:
        return np.linspace(0.1, 0.8, self.responses.shape[1]).round(3)


def small_lab(folder: Path, n: int = 6, n_left: int = 5, n_voxels: int = 8) -> Lab:
    """A lab with a few coloured squares and responses unlike any other."""
    pictures = {}
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(n):
        pictures[f"nsd-{10 * i:05d}"] = folder / f"square{i}.png"
        Image.new("RGB", (8, 8), (40 * i, 255 - 40 * i, 9)).save(folder / f"square{i}.png")
    responses = np.arange(n)[:, None] * 10 + np.arange(n_voxels) + np.sin(np.arange(n * n_voxels)).reshape(n, -1)
    left, right = np.array([3, 40, 500, 2_561, 9_000])[:n_left], np.array([7, 40, 1_000])
    return Lab(pictures, responses.astype(np.float32), n_left, np.concatenate([left, right]))


def blocks() -> list[tuple[str, str, str]]:
    """The blocks of the documentation that are run: language, file name or '', and text."""
    return [(block.language, block.file, block.text) for block in fenced_code.blocks(DOCS) if not block.why]


def described(name: str) -> str:
    """The YAML file of this name in the documentation."""
    return next(text for _, file, text in blocks() if file == name)


def make(folder: Path, kind: str, lab: Lab) -> Path:
    """Write a folder of one kind, and the YAML file that the documentation gives for it. Return the file."""
    folder.mkdir(parents=True)
    MAKERS[kind](folder, lab)
    path = folder / "data.yaml"
    path.write_text(described(f"{kind}/data.yaml"), encoding="utf-8")
    return path


def table(path: Path, header: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *rows])


def images(folder: Path, lab: Lab) -> None:
    (folder / "images").mkdir()
    for source in lab.pictures.values():
        shutil.copy(source, folder / "images")
    table(folder / "stimuli.csv", ["id", "file"], [(one, path.name) for one, path in lab.pictures.items()])


def on_mesh(values: np.ndarray, vertex: np.ndarray, n: int) -> np.ndarray:
    """Values (..., voxels) on all vertices of a mesh, 0 elsewhere."""
    out = np.zeros((*values.shape[:-1], n), values.dtype)
    out[..., vertex] = values
    return out


def write_gifti(path: Path, arrays: Iterable[np.ndarray], side: str, labels: Sequence[str] = ()) -> None:
    intent = "NIFTI_INTENT_LABEL" if labels else "NIFTI_INTENT_NONE"
    darrays = [gifti.GiftiDataArray(array, intent=intent) for array in arrays]
    meta = gifti.GiftiMetaData({"AnatomicalStructurePrimary": {"lh": "CortexLeft", "rh": "CortexRight"}[side]})
    image = gifti.GiftiImage(darrays=darrays, meta=meta)
    for key, name in enumerate(("???", *labels) if labels else ()):
        label: Any = gifti.GiftiLabel(key, 0.1, 0.2, 0.3, 1)
        label.label = name
        image.labeltable.labels.append(label)
    nibabel.save(image, path)


def write_sphere(path: Path, side: str) -> None:
    """A native sphere: the vertices of a coarse fsaverage, a little turned."""
    angle = {"lh": 0.01, "rh": 0.02}[side]
    turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    vertices = (sphere()[0][:N_MESH] @ turn).astype(np.float32)
    faces = np.array([[0, 1, 2]], np.int32)
    if path.suffix == ".gii":
        points = gifti.GiftiDataArray(vertices, intent="NIFTI_INTENT_POINTSET")
        triangles = gifti.GiftiDataArray(faces, intent="NIFTI_INTENT_TRIANGLE")
        nibabel.save(gifti.GiftiImage(darrays=[points, triangles]), path)
    else:
        FREESURFER.write_geometry(path, vertices, faces)


def npy(folder: Path, lab: Lab) -> None:
    images(folder, lab)
    for side, part in lab.sides.items():
        np.save(folder / f"{side}_responses.npy", lab.responses[:, part])
        np.save(folder / f"{side}_vertices.npy", lab.vertex[part])
    rows = zip(lab.areas, lab.ceilings, strict=True)
    table(folder / "voxels.csv", ["area", "noise_ceiling"], rows)


def hdf5(folder: Path, lab: Lab) -> None:
    """Two trials of each image, with opposite noise, in two sessions; images in one array, counted from 1."""
    n = len(lab.pictures)
    pixels = np.stack([np.asarray(Image.open(path).convert("RGB")) for path in lab.pictures.values()])
    with h5py.File(folder / "stimuli.hdf5", "w") as file:
        file["imgBrick"] = pixels
    order = np.concatenate([np.arange(n), np.arange(n)[::-1]])
    ids = list(lab.pictures)
    trials = [(ids[i], i + 1, 1 + k // n, 1 + k // n) for k, i in enumerate(order)]
    table(folder / "trials.csv", ["id", "image", "session", "repeat"], trials)
    noise = 0.4 * np.sign(np.sin(np.arange(lab.responses.size) + 1)).reshape(lab.responses.shape)
    both = np.concatenate([(lab.responses + noise)[order[:n]], (lab.responses - noise)[order[n:]]])
    with h5py.File(folder / "betas.hdf5", "w") as file:
        file["betas"] = both.T.astype(np.float32)  # (voxels, trials)
    for side, part in lab.sides.items():
        mask = on_mesh(np.ones(len(lab.vertex[part]), np.uint8), lab.vertex[part], N_MESH)
        np.save(folder / f"{side}_mask.npy", mask)


def virtual_betas(folder: Path) -> None:
    """Put the array of `hdf5` together from the files betas_1.h5 and betas_2.h5."""
    with h5py.File(folder / "betas.hdf5") as file:
        betas = file["betas"][:]
    whole, n = h5py.VirtualLayout(betas.shape, betas.dtype), betas.shape[1] // 2
    for k, part in enumerate((slice(n), slice(n, None))):
        name = f"betas_{k + 1}.h5"
        with h5py.File(folder / name, "w") as file:
            file["inner/betas"] = betas[:, part]
        whole[:, part] = h5py.VirtualSource(name, "inner/betas", shape=betas[:, part].shape)
    (folder / "betas.hdf5").unlink()  # it may be open
    with h5py.File(folder / "betas.hdf5", "w") as file:
        file.create_virtual_dataset("betas", whole)


def gifti_files(folder: Path, lab: Lab) -> None:
    images(folder, lab)
    for side, part in lab.sides.items():
        name, vertex = f"sub-01_hemi-{side[0].upper()}_space-fsaverage5", lab.vertex[part]
        write_gifti(folder / f"{name}_betas.func.gii", on_mesh(lab.responses[:, part], vertex, N_MESH), side)
        inside = on_mesh(np.ones(len(vertex), np.float32), vertex, N_MESH)
        write_gifti(folder / f"{name}_mask.func.gii", [inside], side)
        labels = on_mesh(lab.numbers[part].astype(np.int32), vertex, N_MESH)
        write_gifti(folder / f"{name}_visual.label.gii", [labels], side, AREAS)


def nifti(folder: Path, lab: Lab) -> None:
    """Voxels of a box, left of the middle first in the order of numpy, in two sessions."""
    images(folder, lab)
    n_voxels = lab.responses.shape[1]
    shape = (12, 6, 1 + n_voxels // 36)
    inside = np.zeros(np.prod(shape), bool)
    inside[np.linspace(0, len(inside) - 1, n_voxels).astype(int)] = True
    mask = inside.reshape(shape)
    volume = np.zeros((*shape, len(lab.responses)), np.float32)
    volume[mask] = lab.responses.T
    labels = np.zeros(shape, np.int16)
    labels[mask] = lab.numbers
    half = len(lab.responses) // 2
    for name, data in {
        "mask.nii.gz": mask.astype(np.uint8),
        "betas_ses-1.nii.gz": volume[..., :half],
        "betas_ses-2.nii.gz": volume[..., half:],
        "visual_areas.nii.gz": labels,
    }.items():
        nibabel.save(nibabel.Nifti1Image(data, AFFINE), folder / name)


def cifti(folder: Path, lab: Lab) -> None:
    """A cortex of native vertices, and a few voxels below it that are not used."""
    images(folder, lab)
    axes: Any = nibabel.cifti2
    parts = []
    for structure, (side, part) in zip(STRUCTURES, lab.sides.items(), strict=True):
        vertex = lab.vertex[part]
        parts.append(axes.BrainModelAxis.from_surface(vertex, N_MESH, name=structure))
        write_sphere(folder / f"fsLR_to_fsaverage.{side[0].upper()}.sphere.surf.gii", side)
    below = axes.BrainModelAxis(
        "CIFTI_STRUCTURE_THALAMUS_LEFT", voxel=np.array([[1, 1, 1], [1, 1, 2]]), affine=AFFINE, volume_shape=(4, 4, 4)
    )
    models = parts[0] + parts[1] + below
    data = np.concatenate([lab.responses, np.full((len(lab.responses), 2), 7, np.float32)], 1)
    names = axes.ScalarAxis(list(lab.pictures))
    nibabel.save(axes.Cifti2Image(data, (names, models)), folder / "betas.dscalar.nii")
    labels = np.concatenate([lab.numbers, [0, 0]])[None].astype(np.float32)
    key = {0: ("???", (0, 0, 0, 0)), **{i + 1: (name, (1, 0, 0, 1)) for i, name in enumerate(AREAS)}}
    nibabel.save(axes.Cifti2Image(labels, (axes.LabelAxis(["visual"], [key]), models)), folder / "visual.dlabel.nii")


def electrodes(folder: Path, lab: Lab) -> None:
    images(folder, lab)
    n_voxels = lab.responses.shape[1]
    places = np.random.default_rng(0).uniform(-30, 30, (n_voxels, 3)).round(2)
    hemi = ["lh"] * lab.n_left + ["rh"] * (n_voxels - lab.n_left)
    rows = [(f"e{i:03d}", hemi[i], *places[i], lab.areas[i], lab.ceilings[i]) for i in range(n_voxels)]
    table(folder / "electrodes.csv", ["voxel", "hemi", "x_mm", "y_mm", "z_mm", "area", "noise_ceiling"], rows)
    names = [f"e{i:03d}" for i in range(n_voxels)]
    pd.DataFrame(lab.responses, columns=names).to_parquet(folder / "responses.parquet")


def native(folder: Path, lab: Lab) -> None:
    images(folder, lab)
    for side, part in lab.sides.items():
        vertex = lab.vertex[part]
        write_sphere(folder / f"{side}.sphere.reg", side)
        data = on_mesh(lab.responses[:, part], vertex, N_MESH).T.reshape(N_MESH, 1, 1, -1)
        nibabel.save(nibabel.MGHImage(data, np.eye(4)), folder / f"{side}.betas.mgh")
        lines = "".join(f"{i}  0.0 0.0 0.0 0.0\n" for i in vertex)
        (folder / f"{side}.visual.label").write_text(f"#!ascii label\n{len(vertex)}\n{lines}")
        labels = on_mesh(lab.numbers[part].astype(np.int32), vertex, N_MESH)
        colours = np.array([[20 * i, 30, 40, 0, 0] for i in range(4)])
        FREESURFER.write_annot(folder / f"{side}.areas.annot", labels, colours, ["unknown", *AREAS], fill_ctab=True)


MAKERS: dict[str, Callable[[Path, Lab], None]] = {
    "npy": npy,
    "hdf5": hdf5,
    "gifti": gifti_files,
    "nifti": nifti,
    "cifti": cifti,
    "electrodes": electrodes,
    "native": native,
}
