"""The planted brain: true maps of depth, position and scale, and the responses of voxels with these properties.

Responses are computed from the network's tokens by Gaussian receptive fields. They use no part of the encoder, so that
a recovery of the true maps is an independent test of the encoder.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from bddn.cortex.fsaverage import HEMISPHERES, N_VERTICES, N_VERTICES_FSAVERAGE5, fsaverage5, sphere
from bddn.cortex.meshes import MESHES
from bddn.data.algonauts import ATLASES, CEILING, IMAGES, MASKS, RESPONSES
from bddn.data.nsd.labels import NAMES, OWN
from bddn.planted import laws
from bddn.spec import PlantSpec

RESPONSE_STD = 0.7  # as for the challenge's averaged z-scores

Floats = npt.NDArray[np.floating]

# Landmarks on the right pial surface: calcarine sulcus, occipital pole, lateral (EBA) and dorsal (OPA) cortex.
V1_MM, POLE_MM, LATERAL_MM, DORSAL_MM = (10, -86, 2), (13, -104, 0), (46, -72, 2), (33, -82, 20)
DEPTH_MARGIN_RAD = 0.1  # the first and the last layer each get a band of this width

LABELS = {atlas: NAMES[atlas] for atlas in (*OWN, "streams")}


@dataclass(frozen=True)
class Patch:
    """A posterior patch of one hemisphere: n vertices, and their positions relative to the calcarine sulcus, in rad."""

    vertex: npt.NDArray[np.intp]
    angle: Floats
    forward: Floats
    """Towards lateral cortex."""
    upward: Floats


def posterior_patch(hemi: str, radius_rad: float, n_vertices: int = N_VERTICES_FSAVERAGE5) -> Patch:
    """Return the vertices of a mesh within an angle of the occipital pole. They are fsaverage7 vertices too."""
    pial_mm, _ = fsaverage5("pial", hemi)
    direction = sphere()[0][:n_vertices] / np.linalg.norm(sphere()[0][0])

    def landmark(at_mm: tuple[int, int, int]) -> Floats:
        side = np.array([-1 if hemi == "lh" else 1, 1, 1])
        return np.asarray(direction[np.square(pial_mm - side * at_mm).sum(1).argmin()])  # of fsaverage5

    v1, pole = landmark(V1_MM), landmark(POLE_MM)
    forward = _perpendicular(landmark(LATERAL_MM), v1)
    upward = _perpendicular(landmark(DORSAL_MM), v1, forward)
    vertex = np.flatnonzero(direction @ pole > np.cos(radius_rad))
    at = direction[vertex]
    angle = np.arccos(np.clip(at @ v1, -1, 1))
    bearing = np.arctan2(at @ upward, at @ forward)
    return Patch(vertex, angle, angle * np.cos(bearing), angle * np.sin(bearing))


def true_maps(spec: PlantSpec, n_layers: int) -> pd.DataFrame:
    """Return the true maps, one row per voxel: `depth`, `x`, `y`, `scale`, `sigma` and `ceiling`.

    `reach` is the distance from the calcarine sulcus, 0 to 1; `nominal` the depth that tuning is centred on; `depth`
    the mean depth of what is read, which differs from it next to the first and the last layer; `sigma` the receptive
    field's standard deviation in image coordinates (-1 to 1), and `angle` its direction in rad. `forward` and `upward`
    say where on the patch a voxel is, in rad.
    """
    rng = np.random.default_rng([spec.seed, 2])
    tables = []
    for hemi in HEMISPHERES:
        patch = posterior_patch(hemi, spec.radius_rad, MESHES[spec.mesh])
        p, q = patch.forward, patch.upward
        end = patch.angle.max() - 2 * DEPTH_MARGIN_RAD
        reach = np.clip((patch.angle - DEPTH_MARGIN_RAD) / end, 0, 1)
        nominal = laws.DEPTH[spec.depth_law](reach)
        tuning = laws.tuning(nominal, spec.depth_law, n_layers, spec.layer_spread, q)
        x, y = laws.places(spec.place_law, hemi, p, q)
        wave = spec.mean_ceiling + min(0.12, spec.mean_ceiling / 2) * np.sin(5 * p) * np.cos(4 * q)
        ceiling = np.clip(wave + rng.normal(0, 0.08, len(p)), 0.03, 0.75)
        smallest, largest = spec.field_size
        table = {
            "hemi": hemi,
            "vertex": patch.vertex,
            "reach": reach,
            "nominal": nominal,
            "depth": tuning @ np.linspace(0, 1, n_layers),
            "x": x,
            "y": y,
            "scale": laws.scales(spec.scale_law, nominal, p, q),
            "sigma": smallest + (largest - smallest) * nominal,
            "angle": 3 * p + 2 * q,
            "ceiling": np.where(q > np.quantile(q, 1 - spec.silent), 0.0, ceiling),
            "forward": p,
            "upward": q,
        }
        tables.append(pd.DataFrame(table))
    return pd.concat(tables, ignore_index=True)


def true_responses(
    local: Sequence[Floats] | Floats, global_: Sequence[Floats] | Floats, truth: pd.DataFrame, spec: PlantSpec
) -> npt.NDArray[np.float32]:
    """Return the responses of the planted voxels to images, with noise according to each voxel's noise ceiling.

    Parameters
    ----------
    local : L arrays, (n_images, H, W, C)
    global_ : L arrays, (n_images, C)
        Tokens of the network; layers may differ in H, W and C.
    truth : table
        The result of `true_maps`.

    Returns
    -------
    array of float32, (n_images, n_voxels)
    """
    rng = np.random.default_rng([spec.seed, 3])
    n_layers, n_images, n_voxels = len(local), len(local[0]), len(truth)
    nominal, q = truth["nominal"].to_numpy(), truth["upward"].to_numpy()
    tuning = laws.tuning(nominal, spec.depth_law, n_layers, spec.layer_spread, q)
    scale = truth["scale"].to_numpy()[:, None]
    mixture = laws.mixtures(rng, n_voxels, spec.n_features, spec.shared_tuning)
    signal = np.zeros((n_voxels, n_images), np.float32)
    read, seen_on = np.empty((n_voxels, 0), np.float32), (0, 0)
    for layer, (near, far) in enumerate(zip(local, global_, strict=True)):
        _, h, w, width = near.shape
        if seen_on != (h, w):
            fields = receptive_fields(truth, h, w, spec.elongation)
            read = (fields[:, :, None] * mixture[:, None, :]).reshape(n_voxels, -1).astype(np.float32)
            seen_on = h, w
        channels = np.linalg.qr(rng.normal(size=(width, spec.n_features)))[0]
        here = (_standardized(near, (0, 1, 2)) @ channels).reshape(n_images, -1).astype(np.float32)
        everywhere = (_standardized(far, (0,)) @ channels).astype(np.float32)
        both = (1 - scale) * (read @ here.T) + scale * (mixture.astype(np.float32) @ everywhere.T)
        signal += (tuning[:, layer, None] * both).astype(np.float32)
    signal = _standardized(signal.T, (0,))
    ceiling = truth["ceiling"].to_numpy()
    noise = laws.unit_noise(spec.noise, rng, n_images, n_voxels, truth["forward"].to_numpy(), q)
    responses = RESPONSE_STD * (np.sqrt(ceiling) * signal + np.sqrt(1 - ceiling) * noise)
    return np.asarray(responses, dtype=np.float32)


def write_subject(folder: Path, responses: npt.NDArray[np.float32], truth: pd.DataFrame) -> None:
    """Write responses, masks, label maps and noise ceilings in the Algonauts layout. The images exist already."""
    for part in (RESPONSES, CEILING, MASKS):
        (folder / part).mkdir(parents=True, exist_ok=True)
    for atlas, names in LABELS.items():
        mapping = np.array(dict(enumerate(("Unknown", *names))), dtype=object)
        np.save(folder / MASKS / f"mapping_{atlas}.npy", mapping)  # a pickle, as in the challenge
    for hemi in HEMISPHERES:
        mine = (truth["hemi"] == hemi).to_numpy()
        vertex = truth.loc[mine, "vertex"].to_numpy()
        order = np.argsort(vertex)
        np.save(folder / RESPONSES / f"{hemi}_training_fmri.npy", responses[:, mine][:, order])
        np.save(folder / CEILING / f"{hemi}_noise_ceiling.npy", truth.loc[mine, "ceiling"].to_numpy()[order])
        every = np.zeros(N_VERTICES, np.int64)
        every[vertex] = 1
        np.save(folder / MASKS / f"{hemi}.all-vertices_fsaverage_space.npy", every)
        for atlas in ATLASES:
            labels = np.zeros(N_VERTICES, np.int64)
            labels[vertex] = _labels(atlas, truth[mine])
            np.save(folder / MASKS / f"{hemi}.{atlas}_fsaverage_space.npy", labels)
            np.save(folder / MASKS / f"{hemi}.{atlas}_challenge_space.npy", labels[vertex[order]])


def image_path(subject: Path, i: int) -> Path:
    """Return the path of image `i` (from 0) of a planted subject; its NSD number is invented and grows with `i`."""
    return subject / IMAGES / f"train-{i + 1:04d}_nsd-{7 * i + 13:05d}.png"


def _perpendicular(direction: Floats, *axes: Floats) -> Floats:
    """Return the unit vector of the part of a direction that is perpendicular to orthonormal axes."""
    rest = direction - sum(axis * (direction @ axis) for axis in axes)
    return np.asarray(rest / np.linalg.norm(rest))


def _labels(atlas: str, truth: pd.DataFrame) -> npt.NDArray[np.int64]:
    """Return the ROI label (n,) of every voxel, roughly as in anatomy: bands of depth, ventral and dorsal."""
    depth, up = truth["reach"].to_numpy(), truth["upward"].to_numpy()
    dorsal = up > 0
    regions = {
        "V1v": (depth < 0.2) & ~dorsal,
        "V1d": (depth < 0.2) & dorsal,
        "V2v": (depth >= 0.2) & (depth < 0.32) & ~dorsal,
        "V2d": (depth >= 0.2) & (depth < 0.32) & dorsal,
        "V3v": (depth >= 0.32) & (depth < 0.42) & ~dorsal,
        "V3d": (depth >= 0.32) & (depth < 0.42) & dorsal,
        "hV4": (depth >= 0.42) & (depth < 0.58) & (up < -0.02),
        "OPA": (depth >= 0.58) & (depth < 0.78) & (up > 0.25),
        "PPA": (depth >= 0.58) & (up < -0.12),
        "FFA-1": (depth >= 0.58) & (up < 0.05) & (up >= -0.12),
        "EBA": (depth >= 0.8) & (up >= 0.05),
        "early": depth < 0.42,
        "ventral": (depth >= 0.42) & (up < -0.1),
        "lateral": (depth >= 0.42) & (np.abs(up) <= 0.1),
        "parietal": (depth >= 0.42) & (up > 0.1),
    }
    labels = np.zeros(len(truth), np.int64)
    for number, name in enumerate(LABELS[atlas], 1):
        if name in regions:
            labels[regions[name]] = number
    return labels


def receptive_fields(truth: pd.DataFrame, h: int, w: int, elongation: float) -> Floats:
    """Return Gaussian weights (n_voxels, H·W) over the token grid; they sum to 1 for each voxel.

    `truth` has the columns `x`, `y`, `sigma` and `angle` of `true_maps`.
    """
    rows, columns = ((np.arange(n) + 0.5) * 2 / n - 1 for n in (h, w))
    x, y, sigma, angle = (truth[name].to_numpy()[:, None, None] for name in ("x", "y", "sigma", "angle"))
    right, down = columns[None, None, :] - x, rows[None, :, None] - y
    along, across = right * np.cos(angle) + down * np.sin(angle), down * np.cos(angle) - right * np.sin(angle)
    fields = np.exp(-(np.square(along) / elongation + np.square(across) * elongation) / (2 * sigma**2))
    fields = fields.reshape(len(truth), -1) + np.finfo(np.float64).tiny
    return np.asarray(fields / fields.sum(1, keepdims=True))


def _standardized(values: Floats, axes: tuple[int, ...]) -> Floats:
    return np.asarray((values - values.mean(axes, keepdims=True)) / values.std(axes, keepdims=True))
