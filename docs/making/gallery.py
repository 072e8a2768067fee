"""The gallery: `python docs/making/gallery.py` runs its commands and keeps their pictures and pages in build/gallery.

The demo must have been made (`make demo`); it is not changed. Figures of `make finetuning` are shown if they were drawn
before.
"""

import contextlib
import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from gallery_figures import FIGURES, FOLDER, GROUPS, RUN, SHOWN, Figure, Group

ROOT = Path(__file__).resolve().parents[2]
PICTURES = ROOT / "build/gallery"
FILES = Path(__file__).parent / "gallery_files"
WHY = "takes minutes; 'make gallery' runs it"
WIDTH = 1400
FINDINGS = ("audit", "check")  # whose exit code 1 says something about a run, and is no failure


def drawn() -> list[Path]:
    """The pictures and pages that were made."""
    return [path for figure in FIGURES if (path := PICTURES / figure.name).is_file()]


def page(_: str) -> str:
    """The gallery as Markdown; what was not made is left out."""
    made = {path.name: path for path in drawn()}
    parts = [_thumbnails([figure for figure in FIGURES if figure.name in made and not figure.name.endswith(".html")])]
    for group in GROUPS:
        parts += [f"## {group.title}", group.words, *_preparation(group)]
        for figure in group.figures:
            shown = [_shown(figure, made[figure.name])] if figure.name in made else []
            parts += [f"### {figure.title}", figure.words, _code("bash", figure.command), *shown]
    return "\n\n".join(parts)


def _thumbnails(figures: Sequence[Figure]) -> str:
    links = []
    for figure in figures:
        anchor = figure.title.lower().replace(" ", "-")
        links.append(f'<a href="#{anchor}"><img src="gallery/{figure.name}" alt="">{figure.title}</a>')
    return "\n".join(['<div class="thumbnails">', *links, "</div>"])


def _preparation(group: Group) -> list[str]:
    if not group.prepared:
        return []
    files = [_code(Path(name).suffix[1:], (FILES / name).read_text().rstrip(), name) for name in group.files]
    commands = _code("bash", "\n".join(group.prepared))
    return ["<details markdown><summary>What is made before</summary>", *files, commands, "</details>"]


def _shown(figure: Figure, file: Path) -> str:
    if file.suffix == ".html":
        return f"[Open the page](gallery/{file.name}), {file.stat().st_size / 1e6:.1f} MB."
    with Image.open(file) as image:
        size = f"width={image.width} height={image.height}"
    return f"![{figure.title}: {figure.words}](gallery/{file.name}){{ loading=lazy {size} }}"


def _code(language: str, text: str, file: str = "") -> str:
    words = {"py": "python"}.get(language, language) + (f" file={file}" if file else "")
    return f'```{words} why="{WHY}"\n{text}\n```'


def main() -> None:
    """Run all commands, in a folder of their own, and keep what they make."""
    demo, work = ROOT / "build/demo", PICTURES / "work"
    if not (demo / "run/report.html").is_file():
        sys.exit(f"error: {demo}: expected the demo; got none. Run 'make demo' first.")
    shutil.rmtree(PICTURES, ignore_errors=True)
    (work / "build/demo").mkdir(parents=True)
    for part in demo.iterdir():
        if part.name != "run":
            (work / "build/demo" / part.name).symlink_to(part.resolve())
    shutil.copytree(demo / "run", work / RUN)
    (work / "build/finetuning").symlink_to(ROOT / "build/finetuning")
    with contextlib.chdir(work):
        Path("photos").mkdir()
        for name in SHOWN:
            shutil.copy(Path("build/demo") / FOLDER / f"{name}.png", "photos")
        for group in GROUPS:
            for name in group.files:
                shutil.copy(FILES / name, name)
            for command in dict.fromkeys([*group.prepared, *(figure.command for figure in group.figures)]):
                _run(command)
            for figure in group.figures:
                if Path(figure.file).is_file():
                    keep(Path(figure.file), PICTURES / figure.name)
                elif figure.command.startswith("bddn"):
                    sys.exit(f"error: {figure.file}: expected a figure of '{figure.command}'; got no such file.")


def _run(command: str) -> None:
    from bddn.cli import app

    program, *words = shlex.split(command)
    sys.stdout.write(f"{command}\n")
    sys.stdout.flush()
    if program == "python":
        subprocess.run([sys.executable, *words], check=True)  # noqa: S603 # ours
    elif program == "bddn":
        words = [str(found) for word in words for found in (sorted(Path().glob(word)) if "*" in word else [word])]
        code = app(words, standalone_mode=False)
        if code not in (None, 0) and not (code == 1 and words[0] in FINDINGS):
            sys.exit(f"error: exit code {code} of: {command}")


def keep(picture: Path, place: Path, n_colours: int = 256) -> None:
    """Copy a picture, smaller and with few colours; a film or a page as it is."""
    if picture.suffix != ".png":
        shutil.copy(picture, place)
        return
    with Image.open(picture) as image:
        image.load()
    small = image.convert("RGB")
    if small.width > WIDTH:
        small = small.resize((WIDTH, round(small.height * WIDTH / small.width)), Image.Resampling.LANCZOS)
    small.quantize(n_colours, dither=Image.Dither.NONE).save(place, optimize=True)


if __name__ == "__main__":
    main()
