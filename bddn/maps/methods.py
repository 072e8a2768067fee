"""The paragraph for a paper's Methods section: what a run did, in words, with versions, citations and data terms."""

from bddn.data.fsaverage import N_VERTICES
from bddn.maps.meshes import MESHES, Mesh
from bddn.run import Run

_LIBRARIES = ("torch", "transformers", "diffusers")
_RECIPE = {
    "root": "the readout was scaled by the square root of the number of channels",
    "mean": "the readout was the mean over channels",
}
_SELECTION = {
    "topological": "by small networks of the voxel's position on the fsaverage sphere, and so smoothly over cortex",
    "free": "freely for each voxel, without the topological constraint",
    "unfactorized": "with one free weight for every token of every layer (not factorized)",
}
_PREPROCESS = {
    "paper": "squashed to this size and normalised by the mean and deviation of ImageNet",
    "native": "preprocessed as the backbone's own processor does",
}
_DATA = {
    "algonauts": (
        "Responses are those of the Algonauts 2023 challenge (Gifford et al., 2023), made from the Natural Scenes "
        "Dataset (Allen et al., 2022), averaged over repetitions.",
        ("gifford", "allen"),
        "Data terms: the Natural Scenes Dataset and the Algonauts 2023 data are given out under their own terms of "
        "use, to which every user agrees; responses must not be passed on. Check these terms before sharing encoders "
        "or maps of single subjects.",
    ),
    "planted": (
        "Responses are synthetic: a planted brain with a known answer, not a measurement.",
        (),
        "Data terms: none; the data are synthetic.",
    ),
}
_OWN = ("Responses are the user's own data.", (), "Data terms: those of the data's owner.")
_REFERENCES = {
    "yang": "Yang H, Gee J, Shi J (2024). Brain Decodes Deep Nets. CVPR.",
    "fischl": "Fischl B, Sereno MI, Tootell RBH, Dale AM (1999). High-resolution intersubject averaging and a "
    "coordinate system for the cortical surface. Human Brain Mapping 8: 272-284.",
    "allen": "Allen EJ et al. (2022). A massive 7T fMRI dataset to bridge cognitive neuroscience and artificial "
    "intelligence. Nature Neuroscience 25: 116-126.",
    "gifford": "Gifford AT et al. (2023). The Algonauts Project 2023 challenge: how the human brain makes sense of "
    "natural scenes. arXiv:2301.03198.",
}


def methods(run: Run, mesh: Mesh = "fsaverage5") -> str:
    """The paragraph, its references and the data's terms, as Markdown.

    Parameters
    ----------
    run : Run
    mesh : str
        That the maps are drawn on.

    Returns
    -------
    str
        Every number in it is read from the run folder.
    """
    fit, cache, versions = run.about["fit"], run.about["cache"], run.about["environment"]
    spec, made_with, data = cache["spec"], cache["made_with"], run.about["data"]
    kind = run.metrics["title"].partition(":")[0]
    about_data, cited, terms = _DATA.get(kind, _OWN)
    size, grid, weights = spec["image_size"], spec["grid"], cache["backbone"].get("weights_sha256") or "none"
    network = cache["backbone"].get("class", "a network of the user")
    preprocess = _PREPROCESS.get(spec["preprocess"], "preprocessed as the cache says")
    readout = _RECIPE.get(fit["readout"], "the readout followed the spec")
    whitened = ", on channels decorrelated within each layer" if fit["features"] == "whitened" else ""
    polished = (
        ", and the channel weights were then solved for in closed form, the penalty chosen on the validation images"
        if fit["polish"]
        else ""
    )
    nested = ", whose vertices are the first of fsaverage7" if MESHES[mesh] < N_VERTICES else ""
    libraries = ", ".join(f"{name} {made_with[name]}" for name in _LIBRARIES if name in made_with)
    text = f"""
{about_data} {data["n_images"]:,} images and {data["n_voxels"]:,} voxels on fsaverage (Fischl et al., 1999) were used;
images were split by their identity {":".join(map(str, fit["split"]))} into training, validation and test sets.
Features were computed with {network} (weights SHA-256 {weights[:12]}) on images of {size[0]}×{size[1]} pixels,
{preprocess}. Local tokens of {len(run.layers)} layers ({run.layers[0]} to {run.layers[-1]}) were resized to
{grid[0]}×{grid[1]} and stored with a global token ({spec["global_token"]}) in {spec["precision"]}.
A factorized, topological encoder (FactorTopy; Yang et al., 2024) was fitted: every voxel selects a place in the image,
a mixture of layers and of local and global tokens {_SELECTION[fit["selection"]]}, and reads {fit["channels"]} aligned
channels; {readout}. It was trained with AdamW (learning rate {fit["learning_rate"]:g},
{fit["schedule"].replace("_", "-")} schedule, batches of {fit["batch_size"]}, {fit["epochs"]} epochs, seed
{fit["seed"]}) on a smooth-L1 loss (β = {fit["loss_beta"]:g}) with a selector regularizer of {fit["regularizer"]:g}
that fades over {fit["regularizer_steps"]:,} steps{whitened}{polished}. The epoch with the best validation score
({run.metrics["best_epoch"] + 1} of {fit["epochs"]}) was kept; the test images were used once.
Brain scores are R² on the test images, without a noise ceiling. Layer confidence is 1 - entropy / log L of the layer
weights. Maps are drawn on {mesh}{nested}.
Software: bddn {versions["bddn"]}, PyTorch {versions["torch"]}, NumPy {versions["numpy"]}, Python {versions["python"]};
features with {libraries}. Feature cache {cache["digest"][:16]}, responses {data["responses_sha256"][:16]}.
"""
    references = [f"- {_REFERENCES[name]}" for name in ("yang", "fischl", *cited)]
    return "\n".join(["# Methods", "", " ".join(text.split()), "", "## References", "", *references, "", terms, ""])
