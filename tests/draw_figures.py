"""Draw every figure of the paper from toys: `python tests/draw_figures.py build/figures`, no download, some minutes.

Two planted subjects, a network and its untrained twin, an ablation, and a small Stable Diffusion of random weights. The
figures show that everything is drawn, and look as they would with real data; what they say is true of the toys alone.
"""

import json
import sys
from pathlib import Path

import yaml

sys.path.insert(0, str(Path(__file__).parent))
from backbones.small_diffusion import ARCHITECTURE, write_small_diffusion
from bddn.cli import app
from bddn.spec import FitSpec

SUBJECTS = {"subj01": 0, "subj02": 1}
N_IMAGES, RADIUS_RAD, N_LAYERS = 480, 0.45, 6
ARCHITECTURE_FIELDS = (
    "hidden_act",
    "hidden_size",
    "image_size",
    "intermediate_size",
    "layer_norm_eps",
    "num_attention_heads",
    "num_hidden_layers",
    "patch_size",
)
N_STEPS = 10  # the paper has 50, and looks at 25 and 40
DIFFUSION = {
    "sd_t5": ["down_*.resnet_*@t5", "up_*.resnet_*@t5"],
    "sd_t8": ["down_*.resnet_*@t8", "up_*.resnet_*@t8"],
    "sd_steps": ["up_2.resnet_0@t*"],
}


def run(*arguments: object) -> None:
    """A command of bddn; where it fails, nothing is drawn any more."""
    print("bddn", *arguments, flush=True)  # noqa: T201
    if code := app([str(argument) for argument in arguments], standalone_mode=False):
        sys.exit(code)


def write_spec(path: Path, title: str, **about: object) -> Path:
    path.write_text(yaml.safe_dump({"title": title, **about}))
    return path


def main(out: Path) -> None:
    out.mkdir(parents=True, exist_ok=True)
    free = out / "free.yaml"
    free.write_text(yaml.safe_dump(FitSpec.recipe("fast").to_dict() | {"selection": "free"}))
    runs: dict[str, Path] = {}

    def fit(name: str, subject: str, cache: Path, spec: Path | str = "fast") -> None:
        runs[name] = out / "runs" / name
        run("fit", cache, "--data", f"planted:{out / subject}", "--out", runs[name], "--spec", spec)

    for subject, seed in SUBJECTS.items():
        if not (out / subject).exists():
            sizes = ("--images", N_IMAGES, "--radius", RADIUS_RAD, "--layers", N_LAYERS)
            run("plant", out / subject, "--seed", seed, *sizes)
        config = json.loads((out / subject / "backbone" / "config.json").read_text())
        spec = write_spec(
            out / f"{subject}.yaml",
            "planted network",
            backbone={"family": "clip", "architecture": {name: config[name] for name in ARCHITECTURE_FIELDS}},
            weights={"folder": str(out / subject / "backbone")},
            image_size=112,
        )
        run("extract", spec, "--data", f"planted:{out / subject}", "--out", out / f"{subject}.zarr")
        fit(subject, subject, out / f"{subject}.zarr")
    spec = out / "subj01.yaml"
    run("extract", spec, "--data", f"planted:{out / 'subj01'}", "--out", out / "twin.zarr", "--weights", "random:7")
    fit("untrained", "subj01", out / "twin.zarr")
    fit("free", "subj01", out / "subj01.zarr", free)
    write_small_diffusion(out / "sd")
    for name, layers in DIFFUSION.items():
        spec = write_spec(
            out / f"{name}.yaml",
            name,
            backbone={"family": "stable_diffusion", "architecture": ARCHITECTURE, "n_steps": N_STEPS, "layers": layers},
            weights={"folder": str(out / "sd")},
            image_size=64,
            preprocess="native",
            global_token="mean",
            grid=[4, 4],
        )
        run("extract", spec, "--data", f"planted:{out / 'subj01'}", "--out", out / f"{name}.zarr")
        fit(name, "subj01", out / f"{name}.zarr")

    pictures = sorted((out / "subj01" / "subj01" / "training_split" / "training_images").glob("*.png"))[:3]
    images = [word for path in pictures for word in ("--images", path)]
    figures = {
        "figure2": (["subj01"], images, "subj01"),
        "figure3": (["subj01", "free"], [], None),
        "figure4": (["subj01", "untrained"], [], None),
        "figure5": (["subj01", "subj02"], [], None),
        "figure6": (list(DIFFUSION), [], None),
        "figure7": (["untrained", "subj01"], [], None),
        "figure8": (["subj01", "untrained"], [], None),
        "figure9": (["subj01"], images, "subj01"),
    }
    for name, (of, extra, network) in figures.items():
        given = [*extra, *(("--spec", out / f"{network}.yaml") if network else ())]
        run("figure", name, *(runs[each] for each in of), *given, "--out", out / "figures", "--format", "png,pdf")
    predicted = out / "figures" / "predicted"
    run("predict", runs["subj01"], *pictures, "--spec", out / "subj01.yaml", "--out", predicted)
    run("maps", runs["subj01"])
    run("report", runs["subj01"])
    run("report", runs["subj01"], runs["subj02"], "--out", out / "figures" / "comparison.html")
    run("film", runs["subj01"], "--out", out / "figures" / "film.gif")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
