"""The figures of the gallery: what each shows, and the commands that make it. `gallery` runs them."""

from dataclasses import dataclass
from pathlib import Path

RUN, SMALL, LAB, DIFFUSION = "build/demo/run", "build/small", "build/lab", "build/diffusion"
FIT, UNTRAINED, FREE = (f"{SMALL}/controls/{name}" for name in ("fit", "untrained", "no_topology"))
MANY, TUNED = f"{SMALL}/many", "build/finetuning/out"
DATA, LAB_DATA, OF_DIFFUSION = f"--data planted:{SMALL}", "--data table:lab.yaml", f"--data planted:{DIFFUSION}"
SHOWN = ("train-0001_nsd-00013", "train-0002_nsd-00020", "train-0003_nsd-00027")
FOLDER = "subj01/training_split/training_images"
IMAGES = " ".join(f"--images {SMALL}/{FOLDER}/{name}.png" for name in SHOWN)
OF_IMAGES = f"{FIT} {IMAGES} --spec demo --weights {SMALL}/backbone"
MAPS = f"bddn maps {RUN}"
CONTROLS = (
    f"bddn controls {SMALL}/small.zarr {DATA} --out {SMALL}/controls --only untrained --only no_topology --only pixels "
    "--only gabor --only ridge_layer --only shuffled"
)


@dataclass(frozen=True)
class Figure:
    """A figure: the file in the working folder, its title, what it shows, and the command that makes it."""

    file: str
    title: str
    words: str
    command: str

    @property
    def name(self) -> str:
        """The name of its file in the gallery."""
        return "_".join(Path(self.file).parts[-4:])


@dataclass(frozen=True)
class Group:
    """Figures of one kind, and what is made before them: files of `gallery_files`, and commands."""

    title: str
    words: str
    figures: tuple[Figure, ...]
    prepared: tuple[str, ...] = ()
    files: tuple[str, ...] = ()


GROUPS = (
    Group(
        "One run",
        "Of the [demo](demo.md).",
        (
            Figure(
                f"{RUN}/maps/layer_map.png", "Layer", "The layer of each voxel; brightness is the confidence.", MAPS
            ),
            Figure(f"{RUN}/maps/score_map.png", "Score", "R² on the test images.", MAPS),
            Figure(f"{RUN}/maps/place_map.png", "Place", "The place in the image.", MAPS),
            Figure(f"{RUN}/maps/scale_map.png", "Scale", "Local or global token.", MAPS),
            Figure(f"{RUN}/maps/size.png", "Size", "The size of the receptive field, with `fast`.", MAPS),
            Figure(f"{RUN}/maps/ceiling.png", "Ceiling", "The noise ceiling, if it is known.", MAPS),
            Figure(
                f"{RUN}/maps/confidence.png",
                "Any column",
                "Any column of `voxels.parquet`.",
                f"bddn maps {RUN} --columns confidence --views flat",
            ),
            Figure(
                "learning.gif",
                "Film",
                "The layer map from the first step to the last.",
                f"bddn film {RUN} --out learning.gif",
            ),
            Figure(
                f"{RUN}/predicted/responses.png",
                "Predicted responses",
                "Of this brain to any pictures.",
                f"bddn predict {RUN} photos",
            ),
        ),
    ),
    Group(
        "Several runs",
        "Of a smaller brain, with its controls and an ensemble.",
        (
            Figure(
                f"{SMALL}/preferred.png",
                "Preferred images",
                "The images to which ROIs respond most and least, before any fit.",
                f"bddn data show planted:{SMALL} --out {SMALL}/preferred.png",
            ),
            Figure(
                f"{SMALL}/controls/controls.png", "Controls", "A fit and its controls on the same images.", CONTROLS
            ),
            Figure(
                f"{FIT}/check/check.png",
                "Second opinion",
                "The maps of the fit beside those of brute force.",
                f"bddn check {FIT} --cache {SMALL}/small.zarr {DATA}",
            ),
            Figure(
                f"{FIT}/calibration/calibration.png",
                "Calibration",
                "Known slopes, planted on the run's cache, and what a fit finds.",
                f"bddn calibrate {FIT} --cache {SMALL}/small.zarr {DATA} --brains 4",
            ),
            Figure(
                f"{MANY}/ensemble/maps/depth_width.png",
                "Width of intervals",
                "The width of the interval of depth, of an ensemble.",
                f"bddn maps {MANY}/ensemble",
            ),
            Figure(
                f"{SMALL}/compared/differences.png",
                "Differences",
                "Where one network predicts better; without a difference hatched.",
                f"bddn compare {FIT} {UNTRAINED} --out {SMALL}/compared",
            ),
            Figure(
                f"{SMALL}/comparison.html",
                "Page",
                "Brains of several runs, turned together.",
                f"bddn report {FIT} {UNTRAINED} --out {SMALL}/comparison.html",
            ),
            Figure(
                f"{SMALL}/diagnosis/diagnosis.html",
                "Diagnosis",
                "How organised and how fragile networks are.",
                f"bddn diagnose {FIT} {UNTRAINED} --out {SMALL}/diagnosis",
            ),
            Figure(
                "figures/figure2.png", "Figure 2", "What each ROI reads of images.", f"bddn figure figure2 {OF_IMAGES}"
            ),
            Figure(
                "figures/figure3.png", "Figure 3", "Ablations, places, layers.", f"bddn figure figure3 {FIT} {FREE}"
            ),
            Figure("figures/figure4.png", "Figure 4", "Scores of models.", f"bddn figure figure4 {FIT} {UNTRAINED}"),
            Figure(
                "figures/figure5.png", "Figure 5", "Layers of several fits.", f"bddn figure figure5 {MANY}/*/*/seed*"
            ),
            Figure("figures/figure7.png", "Figure 7", "Before and after.", f"bddn figure figure7 {UNTRAINED} {FIT}"),
            Figure(
                "figures/figure8.png", "Figure 8", "Clusters by channels.", f"bddn figure figure8 {FIT} {UNTRAINED}"
            ),
            Figure("figures/figure9.png", "Figure 9", "Channels of ROIs.", f"bddn figure figure9 {OF_IMAGES}"),
        ),
        prepared=(
            f"bddn plant {SMALL} --images 320 --radius 0.35 --layers 4",
            f"bddn extract demo --weights {SMALL}/backbone {DATA} --out {SMALL}/small.zarr",
            CONTROLS,
            f"bddn ensemble {SMALL}/small.zarr {DATA} --out {MANY} --fits 3",
        ),
    ),
    Group(
        "A diffusion network",
        "Its layers are blocks at time-steps.",
        (
            Figure(
                "figures/atlas.png",
                "Atlas",
                "Which block at which time-step.",
                f"bddn figure atlas {DIFFUSION}/run",
            ),
            Figure("figures/figure6.png", "Figure 6", "All layers in one map.", f"bddn figure figure6 {DIFFUSION}/run"),
        ),
        prepared=(
            f"bddn plant {DIFFUSION} --images 320 --radius 0.35 --network diffusion.yaml",
            f"bddn extract diffusion.yaml {OF_DIFFUSION} --out {DIFFUSION}/diffusion.zarr",
            f"bddn fit {DIFFUSION}/diffusion.zarr {OF_DIFFUSION} --out {DIFFUSION}/run",
        ),
        files=("diffusion.yaml",),
    ),
    Group(
        "A lab's own data",
        "Its voxels are points, and some of its images occur twice.",
        (
            Figure(
                f"{LAB}/run/maps/layer_map.png", "Points", "Voxels that have coordinates alone.", f"bddn maps {LAB}/run"
            ),
            Figure(
                f"{LAB}/run/audit/pairs.png",
                "Leaks",
                "Images in two parts of the split.",
                f"bddn audit {LAB}/run {LAB_DATA} --cache {LAB}/lab.zarr",
            ),
        ),
        prepared=(
            "python lab.py",
            f"bddn extract demo --weights {SMALL}/backbone {LAB_DATA} --out {LAB}/lab.zarr",
            f"bddn fit {LAB}/lab.zarr {LAB_DATA} --out {LAB}/run",
        ),
        files=("lab.py", "lab.yaml"),
    ),
    Group(
        "Along a fine-tuning",
        "See [forgetting](forgetting.md).",
        (
            Figure(
                f"{TUNED}/forgetting_curve.png",
                "Forgetting",
                "Brain score, old and new task along a fine-tuning.",
                "make finetuning",
            ),
            Figure(
                f"{TUNED}/figure7_efficientnet.png",
                "Before and after fine-tuning",
                "Layers, scores and depth, each with its test.",
                "make finetuning",
            ),
        ),
    ),
)
FIGURES = tuple(figure for group in GROUPS for figure in group.figures)
