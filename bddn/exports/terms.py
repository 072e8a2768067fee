"""The terms under which an exported encoder may be used. None of them may be left unsaid."""

from dataclasses import dataclass
from typing import Any

from bddn.errors import SpecError
from bddn.files.paths import printable
from bddn.spec import CacheSpec

NO_RESPONSES = (
    "This folder contains no responses; the noise ceiling, mean and standard deviation of each voxel are in "
    "`voxels.parquet`."
)


@dataclass(frozen=True)
class Terms:
    """The terms of an exported folder, as sentences.

    Attributes
    ----------
    data : str
        What the owner of the data allows, as the dataset says it.
    statement : str
        What the person says who made the folder, or ''.
    network : str
        The licence of the network's weights, and whether they are in the folder.
    responses : str
        Whether measured responses are in the folder.
    """

    data: str
    statement: str
    network: str
    responses: str

    def lines(self) -> dict[str, str]:
        """Return the sentences that are not empty, by what they are about."""
        said = {"Data": self.data, "Statement": self.statement, "Network": self.network, "Responses": self.responses}
        return {name: words for name, words in said.items() if words}


def data_terms(about: dict[str, Any], statement: str | None, responses: bool) -> tuple[str, str, str]:
    """Return the sentences about data, statement and responses.

    Parameters
    ----------
    about : dict
        The description of the dataset, as `run.folder.about_data` returns it.
    statement : str, optional
        The option --terms.
    responses : bool
        Whether responses to the test images are exported.

    Raises
    ------
    SpecError
        If the dataset states no terms and there is no statement, or the terms do not let responses be passed on.
    """
    stated, said = about["terms"].removeprefix("Data terms: "), " ".join((statement or "").split())
    if not (about["terms_stated"] or said):
        raise SpecError(
            "--terms",
            expected="a statement of the terms of the data, because the dataset does not state them",
            got="none",
            fix="Ask the owner of the data, then state what may be done with an encoder of them, e.g. "
            "--terms 'CC BY 4.0, with permission of …'.",
        )
    if responses and not about["shares_responses"]:
        raise SpecError(
            "--responses",
            expected="data whose terms let anyone pass responses on",
            got=stated,
            fix="Leave --responses out. If the data are your own, set 'share_responses: true' under 'owner' in their "
            "file, and fit again.",
        )
    kept = "Measured and predicted responses to the test images are in `score/`." if responses else NO_RESPONSES
    return stated[:1].upper() + stated[1:], said, kept


def network_terms(spec: CacheSpec, way: str) -> str:
    """Return the sentences about the weights of the network.

    Parameters
    ----------
    spec : CacheSpec
        With the weights as the folder will name them.
    way : str
        Where its weights are: 'included', 'public', 'left out' or 'own code'.

    Raises
    ------
    SpecError
        If weights without a known licence would be copied.
    """
    if way == "included" and not spec.licence:
        raise SpecError(
            "network",
            expected="the licence of its weights, which would be copied into the folder",
            got="a spec without 'licence'",
            fix="Add 'licence' to the spec and give it with --spec, or leave the weights out with --no-weights.",
        )
    if spec.weights is not None and spec.weights.random is not None:
        return f"Its weights are random numbers of seed {spec.weights.random}, which are made again."
    where = "not in this folder"
    if spec.weights is not None:
        where = {"included": "in `network/`", "public": f"at {printable(spec.weights.place)}"}.get(way, where)
    return f"Its weights are {where}; their licence: {spec.licence or 'unknown'}."
