"""The command `bddn finetune`."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from bddn.cli.shared import DEVICE, SPEC, WEIGHTS, Device, as_table, clear_errors, given, ready_spec, stops_cleanly


@clear_errors
def finetune(
    backbone: Annotated[str, SPEC],
    images: Annotated[str, typer.Option(help="The image set, KIND:PATH, e.g. folder:EuroSAT.", show_default=False)],
    out: Annotated[Path, typer.Option(help="Folder of the fine-tuned network.")],
    method: Annotated[
        Literal["full", "head", "lp_ft", "lora"] | None,
        typer.Option(help="What is trained; by default full: all weights and a linear head."),
    ] = None,
    per_class: Annotated[int | None, typer.Option(help="Training images of each class; by default 50.")] = None,
    steps: Annotated[int | None, typer.Option(help="Number of steps; by default 3000.")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Images in a step; by default 4.")] = None,
    learning_rate: Annotated[float | None, typer.Option(help="Learning rate of AdamW; by default 3e-5.")] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of training images, their order and the head.")] = None,
    checkpoint_every: Annotated[
        int | None, typer.Option(help="Also write the network after each of so many steps, under OUT/steps.")
    ] = None,
    held_out: Annotated[
        int | None, typer.Option(help="Most images of each class for the last accuracy; by default all others.")
    ] = None,
    autocast: Annotated[
        Literal["float16", "bfloat16"] | None, typer.Option(help="Lower precision, on a GPU only.")
    ] = None,
    settings: Annotated[
        Path | None, typer.Option(help="A YAML file with these and all other settings (FinetuneSpec).")
    ] = None,
    weights: Annotated[str | None, WEIGHTS] = None,
    device: Annotated[Device, DEVICE] = "auto",
) -> None:
    """Train a network on an image set with a class per image, and write it as a backbone.

    OUT can be given to 'bddn extract' and other commands as the spec. After an interruption, the same command resumes.
    """
    from bddn.data.image_sets.kinds import open_images
    from bddn.finetune import finetune as run
    from bddn.finetune.tuned_folder import check_out
    from bddn.spec import FinetuneSpec

    place = "options of 'bddn finetune'"
    read = FinetuneSpec() if settings is None else FinetuneSpec.from_yaml(settings.read_bytes(), str(settings))
    options = given(
        method=method,
        per_class=per_class,
        steps=steps,
        batch_size=batch_size,
        learning_rate=learning_rate,
        seed=seed,
        checkpoint_every=checkpoint_every,
        held_out=held_out,
        autocast=autocast,
    )
    chosen = FinetuneSpec.parse(read.to_dict() | options, place)
    with stops_cleanly():
        check_out(out)  # before any file is read
        spec = ready_spec(backbone, weights)
        done = run(
            spec, open_images(images), out, chosen, device=device, tell=lambda words: typer.echo(f"note: {words}")
        )
    for words in done.notes:
        typer.echo(f"note: made with other versions, {words}")
    typer.echo(as_table(done.rows()))
    typer.echo(f"network: {out}, {'trained' if done.fresh else 'the same, trained before, kept'}, {done.summary()}")
