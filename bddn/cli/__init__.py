"""The command line. Each command imports what it needs when it runs, so that the start is fast."""

from bddn.cli.audit import audit
from bddn.cli.backbones import backbones_app, fetch
from bddn.cli.cache import cache_app
from bddn.cli.calibrate import calibrate
from bddn.cli.check import check
from bddn.cli.commands import app, extract, fit, plan, plant
from bddn.cli.compare import compare
from bddn.cli.controls import controls
from bddn.cli.data import data_app
from bddn.cli.datasets import datasets
from bddn.cli.diagnose import diagnose
from bddn.cli.ensemble import ensemble
from bddn.cli.export import export
from bddn.cli.figures import figure, maps
from bddn.cli.finetune import finetune
from bddn.cli.hierarchy import hierarchy
from bddn.cli.many import fit_many
from bddn.cli.pictures import film
from bddn.cli.predict import predict
from bddn.cli.report import report
from bddn.cli.score import score
from bddn.cli.shared import clear_errors, example, filled, stops_cleanly

__all__ = ["app", "clear_errors", "stops_cleanly"]

COMMANDS = (  # panel of `bddn --help`, command, example; in the order of the help
    ("Data", datasets, "bddn datasets"),
    ("Data", plant, "bddn plant build/demo --images 400"),
    ("Stage one", fetch, "bddn fetch clip_vit_b16 mae_b"),
    ("Stage one", plan, "bddn plan clip_vit_b16 --data algonauts:data/subj01"),
    ("Stage one", extract, "bddn extract clip_vit_b16 --data planted:demo --out clip.zarr"),
    ("Stage one", finetune, "bddn finetune clip_vit_b16 --images folder:EuroSAT --out clip_eurosat"),
    ("Stage two", fit, "bddn fit clip.zarr --data algonauts:data/subj01 --out run"),
    ("Stage two", fit_many, "bddn fit-many clip.zarr --data planted:demo --out many --seeds 0-4"),
    ("Stage two", ensemble, "bddn ensemble clip.zarr --data planted:demo --out many"),
    ("Numbers", score, "bddn score run --cache clip.zarr --data algonauts:data/subj01"),
    ("Numbers", audit, "bddn audit run --data algonauts:data/subj01 --cache clip.zarr"),
    ("Numbers", hierarchy, "bddn hierarchy run --rois V1,V2,V4"),
    ("Numbers", calibrate, "bddn calibrate run --cache clip.zarr --data planted:demo --brains 20"),
    ("Numbers", check, "bddn check run --cache clip.zarr --data algonauts:data/subj01"),
    ("Numbers", controls, "bddn controls clip.zarr --data planted:demo --out controls"),
    ("Numbers", compare, "bddn compare many/clip/subj01/seed0 many/dino/subj01/seed0"),
    ("Numbers", diagnose, "bddn diagnose many/*/subj01/seed0 --out diagnosis"),
    ("Numbers", predict, "bddn predict run photos/"),
    ("Numbers", export, "bddn export run --out clip_subj01_encoder"),
    ("Pictures", maps, "bddn maps run --format png,svg"),
    ("Pictures", report, "bddn report run"),
    ("Pictures", figure, "bddn figure figure5 run_a run_b run_c"),
    ("Pictures", film, "bddn film run --out learning.mp4"),
)
GROUPS = (
    ("Data", "data", data_app, "bddn data check folder:EuroSAT"),
    ("Stage one", "backbones", backbones_app, "bddn backbones"),
    ("Caches", "cache", cache_app, "bddn cache info clip.zarr"),
)
for _panel, _command, _example in COMMANDS:
    app.command(rich_help_panel=_panel, epilog=example(_example))(_command)
for _panel, _name, _group, _example in GROUPS:
    app.add_typer(_group, name=_name, rich_help_panel=_panel, epilog=example(_example))
for _app in (app, *(group for _, _, group, _ in GROUPS)):
    for _info in _app.registered_commands:
        _info.help = filled(_info.callback)
