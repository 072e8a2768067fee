"""An encoder with its network, for predictions in Python."""

import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from bddn.backbones.module import HookedModule
from bddn.backbones.registry import load_spec
from bddn.errors import DataError
from bddn.files.paths import expanded
from bddn.predict.exported import check_export
from bddn.predict.network import Network, check_network, open_network, specs_of
from bddn.predict.pictures import files_of, read_pictures
from bddn.predict.responses import predict_pictures
from bddn.run import Run, read_run, read_split
from bddn.spec import CacheSpec

Device = Literal["auto", "cpu", "cuda"]
GivenSpec = CacheSpec | HookedModule | str | Path


@dataclass(frozen=True)
class Encoder:
    """A fitted encoder and the open network whose tokens it reads; see `load_encoder`.

    Attributes
    ----------
    run : Run
        Its table `voxels` (places, ROIs, noise ceilings, selections, scores), `metrics` and `layers`.
    network : Network
    """

    run: Run
    network: Network

    @property
    def test_ids(self) -> list[str]:
        """Ids of the stimuli that neither trained nor validated the encoder."""
        return read_split(self.run)["test"]

    def predict(self, images: str | Path | Sequence[str | Path]) -> npt.NDArray[np.float32]:
        """Predict the responses to images: the numbers of `bddn predict`.

        Parameters
        ----------
        images : str, Path, or sequence of them
            Image files, and folders of PNG and JPEG files. They enter the network as in the extraction.

        Returns
        -------
        array of float32, (n, N)
            In the unit of the data, with voxels in the order of `run.voxels`, and a row for each file in the order
            given. Files of a folder are sorted by name. The last bits depend on the other images of the same call.
            Notes on how images are read are Python warnings.

        Raises
        ------
        DataError
            If a file is missing, damaged or not an image.
        """
        given = [images] if isinstance(images, str | Path) else images
        if isinstance(given, bytes) or not isinstance(given, Iterable):
            raise _no_file(given)
        given = list(given)
        if others := [one for one in given if not isinstance(one, str | Path)]:
            raise _no_file(others[0])
        places = [expanded(Path(place)) for place in given]
        pictures = read_pictures(places)
        for words in pictures.notes:
            warnings.warn(words, stacklevel=2)
        found = predict_pictures(self.run, self.network, pictures)
        row_of = {path: row for row, path in enumerate(pictures.stimuli.paths)}  # of a file that is given twice, too
        return found[[row_of[path] for place in places for path in files_of(place)]]


def load_encoder(folder: str | Path, *, spec: GivenSpec | None = None, device: Device = "auto") -> Encoder:
    """Load the encoder of a run or of a folder of `bddn export`, and open its network.

    Cache and data are not needed. A folder of `bddn export` may be a stranger's: its files are checked, and nothing in
    it is run.

    Parameters
    ----------
    folder : str or Path
    spec : str, Path, CacheSpec or what `from_module` returned, optional
        The network, if the folder does not contain it, and no spec that `bddn backbones` lists is it.
    device : {'auto', 'cpu', 'cuda'}
        Where the network runs.

    Returns
    -------
    Encoder

    Raises
    ------
    BddnError
        If the folder is damaged, or the network is another one or is not on this machine; `bddn fetch FOLDER/spec.yaml`
        downloads public weights.

    Examples
    --------
    >>> encoder = bddn.load_encoder("clip_subj01_encoder")
    >>> responses = encoder.predict("photos")  # one row per image, one column per voxel
    >>> responses[:, encoder.run.voxels["roi"] == "FFA-1"].mean(axis=1)
    """
    run = read_run(expanded(Path(folder)).absolute())
    return Encoder(run, network_of(run, spec, device))


def _no_file(got: object) -> DataError:
    return DataError(
        "images",
        expected="paths of image files or folders, or a sequence of them",
        got=f"a {type(got).__name__}",
        fix="Save an image that is in memory as a PNG file, and give its path.",
    )


def network_of(run: Run, spec: GivenSpec | None, device: Device) -> Network:
    """Open the network of a run; parameters and errors as of `load_encoder`."""
    if isinstance(spec, HookedModule):
        check_export(run)
        return check_network(run, "network of your own", spec.spec, spec, spec.device)
    if spec is None:
        return open_network(run, specs_of(run), device)
    found = spec if isinstance(spec, CacheSpec) else load_spec(str(spec))
    return open_network(run, {found.title if isinstance(spec, CacheSpec) else str(spec): found}, device)
