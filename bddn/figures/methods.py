"""The paragraph for a paper's Methods section: what a run did, in words, with versions, citations and data terms."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from bddn.cortex.fsaverage import N_VERTICES
from bddn.cortex.meshes import MESHES, Mesh
from bddn.cortex.places import NEAR_MM, Space, space_of
from bddn.encoder.schedule import SOFT
from bddn.errors import RunError
from bddn.run import Run
from bddn.run.folder import ENSEMBLE, about_data
from bddn.stats.evidence import in_words, is_tested
from bddn.text import count

_LIBRARIES = ("torch", "transformers", "diffusers")
_RECIPE = {
    "root": "the readout was scaled by the square root of the number of channels",
    "mean": "the readout was the mean over channels",
}
_SELECTION = {
    "topological": "by small networks of the voxel's position{place}, and so smoothly over cortex",
    "free": "freely for each voxel, without the topological constraint",
    "unfactorized": "with one free weight for every token of every layer (not factorized)",
}
_LIE: dict[Space, str] = {
    "fsaverage": "on fsaverage (Fischl et al., 1999)",
    "native surface": "at vertices of the subject's own cortical surface, with their places on the sphere registered "
    "to fsaverage (Fischl et al., 1999)",
    "points": "known by their coordinates",
}
_POSITION: dict[Space, str] = {
    "fsaverage": " on the fsaverage sphere",
    "native surface": " on that sphere",
    "points": " (its coordinates)",
}
_FIXED = {
    "layer": ", except that all layers had equal weights",
    "place": ", except that every place was the centre of the image",
    "local": ", except that only local tokens were read",
    "scale": ", except that local and global token had equal weights",
    None: "",
}
_PREPROCESS = {
    "paper": "squashed to this size and normalised by the mean and deviation of ImageNet",
    "native": "preprocessed as the backbone's own processor does",
}
_OF_THE_METHOD = "Yang H, Gee J, Shi J (2024). Brain Decodes Deep Nets. CVPR."
_OF_FSAVERAGE = (
    "Fischl B, Sereno MI, Tootell RBH, Dale AM (1999). High-resolution intersubject averaging and a "
    "coordinate system for the cortical surface. Human Brain Mapping 8: 272-284."
)
_OF_THE_TEST = (
    "Benjamini Y, Hochberg Y (1995). Controlling the false discovery rate: a practical and powerful approach to "
    "multiple testing. Journal of the Royal Statistical Society B 57: 289-300."
)


@dataclass(frozen=True)
class Methods:
    """What a run did: a paragraph, the references that it cites, and the terms of the data."""

    paragraph: str
    references: tuple[str, ...]
    terms: str

    def markdown(self) -> str:
        """Return the text as Markdown, as in the file beside the maps."""
        listed = "\n".join(f"- {words}" for words in self.references)
        return f"# Methods\n\n{self.paragraph}\n\n## References\n\n{listed}\n\n{self.terms}\n"


def methods(run: Run, mesh: Mesh = "fsaverage5", show_all: bool = False) -> Methods:
    """Describe a run for a paper's Methods section.

    Parameters
    ----------
    run : Run
    mesh : str
        That the maps are drawn on.
    show_all : bool
        Whether they also show the voxels without evidence.

    Returns
    -------
    Methods
        Every number in it is read from the run folder.

    Raises
    ------
    RunError
        If the run lacks this information.
    """
    try:
        return _methods(run, mesh, show_all)
    except (KeyError, TypeError, IndexError, AttributeError) as error:
        raise RunError(
            run.folder / "run.json",
            expected="data, cache and settings, as written by 'bddn fit'",
            got=f"a file without {error}" if isinstance(error, KeyError) else f"other content ({error})",
            fix="Fit again with this version of bddn.",
        ) from error


def _methods(run: Run, mesh: Mesh, show_all: bool) -> Methods:
    fit, cache, versions = run.about["fit"], run.about["cache"], run.about["environment"]
    spec, made_with, data = cache["spec"], cache["made_with"], run.about["data"]
    described = about_data(run)
    size, grid, weights = spec["image_size"], spec["grid"], cache["backbone"].get("weights_sha256") or "none"
    network = cache["backbone"].get("class", "a network of the user")
    preprocess = _PREPROCESS.get(spec["preprocess"], "preprocessed as the cache says")
    readout = _RECIPE.get(fit["readout"], "the readout followed the spec")
    whitened = ", on channels decorrelated within each layer" if fit["features"] == "whitened" else ""
    if fit.get("initial_align") == "responses":
        whitened += (
            ", from an initial alignment turned towards the principal components of the training responses where "
            f"layers have more than {fit['channels']} channels"
        )
    denoised = (
        " The selectors were learned from responses in which noise that voxels share was limited: of each principal "
        "component, what tokens did not explain (variance components, by maximum likelihood) kept at most the variance "
        "that independent noise of the voxels would have, or 0.5 %."
        if fit.get("shared_noise") == "limited"
        else ""
    )
    if fit.get("shared_signal") == "late":
        denoised += (
            " In the first 30 % of the steps, what tokens explained of a component kept at most 10 % of the variance, "
            "and got it back later."
        )
    polished = (
        ", and the channel weights were then solved for in closed form, the penalty chosen on the validation images"
        if fit["polish"]
        else ""
    )
    fixed, sized = _FIXED[fit.get("fixed")], _sized(fit)
    space = space_of(run.voxels)
    selection = _SELECTION[fit["selection"]].format(place=_POSITION[space])
    batch = run.metrics.get("batch_size", fit["batch_size"])
    libraries = ", ".join(f"{name} {made_with[name]}" for name in _LIBRARIES if name in made_with)
    named = " to ".join(dict.fromkeys((run.layers[0], run.layers[-1])))
    text = f"""
{described["responses"]} {_images(data)} and {data["n_voxels"]:,} voxels {_LIE[space]} were used;
{_split(run)}.{_covariates(run)}
Features were computed with {network} (weights SHA-256 {weights[:12]}) on images of {size[0]}×{size[1]}
pixels, {preprocess}. Local tokens of {count(len(run.layers), "layer")} ({named}) were resized to
{grid[0]}×{grid[1]} and stored with a global token ({spec["global_token"]}) in {spec["precision"]}.
A factorized, topological encoder (FactorTopy; Yang et al., 2024) was fitted: every voxel selects a place in the image,
a mixture of layers and of local and global tokens {selection}{fixed}{sized}, and reads
{fit["channels"]} aligned channels; {readout}. It was trained with AdamW (learning rate {fit["learning_rate"]:g},
{fit["schedule"].replace("_", "-")} schedule, batches of {batch}, {_epochs(run)}, seed
{fit["seed"]}) on{_sample(run)} a smooth-L1 loss (β = {fit["loss_beta"]:g}) with a selector regularizer of
{fit["regularizer"]:g} that {_fades(fit)}{whitened}{polished}.{denoised} {_kept(run)};
the test images were used once.{_merged(fit)}
Brain scores are R² on the test images, without a noise ceiling. Layer confidence is 1 - entropy / log L of the layer
weights. {_evidence(run, show_all)} {_drawn(space, mesh)}
Software: bddn {versions["bddn"]}, PyTorch {versions["torch"]}, NumPy {versions["numpy"]}, Python {versions["python"]};
features with {libraries}. Feature cache {cache["digest"][:16]}, responses {data["responses_sha256"][:16]}.
"""
    references = [_OF_THE_METHOD, *([] if space == "points" else [_OF_FSAVERAGE])]
    references += [*([_OF_THE_TEST] if is_tested(run.voxels) else []), *described["references"]]
    return Methods(" ".join(text.split()), tuple(references), described["terms"])


def _sized(fit: Mapping[str, Any]) -> str:
    """Return the words about the size of receptive fields, if it was selected."""
    blurs = fit.get("blurs", [0.0])
    if len(blurs) == 1:
        return ""
    how = f"Gaussian blurs of the local tokens by {', '.join(f'{blur:g}' for blur in blurs)} tokens"
    if fit.get("blurred_tokens") == "scaled" and fit.get("fixed") != "scale":
        how += ", which were scaled to one variance in training"
    return (
        f"; it also selects the size of its receptive field, between {how}, by weights whose negative entropy was "
        "penalized throughout the training, which is an extension of the published model"
    )


def _drawn(space: Space, mesh: Mesh) -> str:
    """Return the sentence about the drawing of maps."""
    if space == "points":
        return "Maps show voxels as points at their coordinates, projected along an axis."
    if space == "native surface":
        return (
            f"Maps are drawn on {mesh}, each of whose vertices shows the nearest voxel on the registered sphere, if "
            f"one is within {NEAR_MM:g} mm."
        )
    nested = ", whose vertices are the first of fsaverage7" if MESHES[mesh] < N_VERTICES else ""
    return f"Maps are drawn on {mesh}{nested}."


def _images(data: Mapping[str, Any]) -> str:
    """Return the number of images in words, and that of responses if images have several."""
    n, n_responses = data["n_images"], data.get("n_responses", 0)
    several = f" with {n_responses:,} responses to single presentations" if n_responses > n else ""
    return f"{n:,} images{several}"


def _covariates(run: Run) -> str:
    """Return a sentence on the covariates whose part was taken out of the responses."""
    found = run.metrics.get("covariates")
    if found is None:
        return ""
    return (
        f" The linear part of covariates ({', '.join(found['names'])}), estimated by least squares from "
        f"{found['compared']} in the training set, was subtracted from all responses."
    )


def _n_epochs(run: Run) -> int:
    """Return the number of epochs that were made, which `max_steps` may limit."""
    made = len(run.metrics.get("epochs") or ()) or run.metrics.get("n_epochs")  # the latter of an ensemble
    return int(made or run.about["fit"]["epochs"])


def _epochs(run: Run) -> str:
    n = _n_epochs(run)
    return "1 epoch" if n == 1 else f"{n} epochs"


def _sample(run: Run) -> str:
    """Return the words about the voxels that trained the selectors, where these are not all."""
    sample, n_voxels = run.about["fit"].get("sample"), run.about["data"]["n_voxels"]
    trained = run.metrics.get("trained_voxels", {})
    if trained.get("chosen") == "responsive":
        return (
            f" {trained['n']:,} voxels, four of five of which were chosen because tokens explained their responses "
            "(variance components; likelihood ratio, p < 0.005), with"
        )
    if sample is None or sample >= n_voxels or run.about["fit"]["selection"] != "topological":
        return ""
    return f" {sample:,} voxels spread evenly over cortex, with"


def _fades(fit: Mapping[str, Any]) -> str:
    """Return the words about how the regularizer ended."""
    fall = fit.get("regularizer_fall", "linear")
    how = "fell exponentially to 1 % and then to zero" if fall == "exponential" else "faded"
    words = f"{how} over {fit['regularizer_steps']:,} steps"
    if fit["schedule"] == "one_cycle":
        words += f", at most {100 * SOFT:.0f} % of all"
    if kept := fit.get("layer_regularizer", 0.0):
        words += f", while the entropy of layer weights stayed rewarded by {kept:g}"
    is_logit = fit.get("scale_regularizer") == "logit"
    return words + ("; its term for the scale was the square of the scale's logit" if is_logit else "")


def _merged(fit: Mapping[str, Any]) -> str:
    """Return the sentence about voxels that select the same because they are near, if any do."""
    spacing = fit.get("resolution")
    if spacing is None or fit["selection"] != "topological":
        return ""
    at = "the mean of their positions" if fit.get("merged_at") == "mean" else "the centre of the cell"
    return (
        f" Voxels in one cell of a cubic grid with a spacing of {spacing / fit['code_steps']:.2g} of the longest "
        f"extent of all positions made the same selection, that of {at}."
    )


def _kept(run: Run) -> str:
    """Return the sentence about the epoch that was kept, or about the fits of an ensemble."""
    fits = run.metrics.get(ENSEMBLE)
    if fits is None:
        if run.about["fit"]["polish"]:
            return "The selectors of the last epoch were kept"
        return (
            f"The epoch with the best validation score ({run.metrics['best_epoch'] + 1} of {_n_epochs(run)}) was kept"
        )
    return (
        f"{fits['n_fits']} such encoders were fitted on this split, each with another seed and with training images "
        "drawn with replacement. Their layer weights, places and scales were averaged, and so were their predictions; "
        f"{fits['level']:.0%} intervals of depth and place come from the deviation between these fits, and those of "
        "depth also from the standard deviation of depth under the layer weights"
    )


def _split(run: Run) -> str:
    """Return a clause that says how the images were split."""
    fit = run.about["fit"]
    by, shares = fit.get("split_by"), ":".join(map(str, fit["split"]))
    drawn = f" (seed {fit['split_seed']})" if "split_seed" in fit else ""
    into = f"{shares} into training, validation and test sets{drawn}"
    if by is None:
        return f"images were split by their identity {into}"
    if by["clusters"] is not None:
        return (
            f"images were grouped into {by['clusters']} clusters (k-means on principal components of the global tokens "
            f"of {by['layer'] or run.layers[-1]}), and whole clusters were split {into}"
        )
    if by.get("file") is not None:
        return "the split into training, validation and test images was that of a given file"
    if by["test"] is None:
        return f"whole categories of images were split {into}"
    training = ":".join(map(str, fit["split"][:2]))
    return (
        f"the test images were those of the categories {', '.join(by['test'])}, and all other images were split by "
        f"their identity {training} into training and validation sets{drawn}"
    )


def _evidence(run: Run, show_all: bool) -> str:
    """Return sentences about the test of evidence, with its results."""
    if not is_tested(run.voxels):
        return "Voxels were not tested for evidence; all are shown."
    masked = "" if show_all else ", and hatched in the maps of selections"
    return (
        "For every voxel, the correlation of predicted and measured responses to the test images was tested one-sided "
        "against a null distribution without their pairing (t-test, and shuffled test images, whichever gave the "
        "larger p-value), with control of the false discovery rate over voxels (Benjamini and Hochberg, 1995). "
        f"{in_words(run.voxels)} Voxels without evidence were left out of the hierarchy slope{masked}; mean brain "
        "scores of ROIs are over all their voxels, because leaving some out by their score would raise the mean."
    )
