"""Moving pictures as files: GIF by Pillow, mp4 by an ffmpeg, that of the package imageio-ffmpeg or one on the PATH."""

import importlib
import shutil
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from importlib.util import find_spec
from itertools import chain, repeat
from pathlib import Path

import numpy as np
import numpy.typing as npt

from bddn.errors import BddnError, SpecError
from bddn.files.atomic import replace_file

MOST_COLOURS = 255
"""Of a GIF; one more says that a pixel stays as it was."""

Picture = npt.NDArray[np.uint8]
"""(rows, columns, 3), red, green and blue; with opacity (rows, columns, 4)."""


def check_kind(out: Path) -> None:
    """Refuse, before anything is drawn, a file that cannot be written.

    Parameters
    ----------
    out : Path

    Raises
    ------
    SpecError
        Where it is neither .gif nor .mp4, or is .mp4 and there is no ffmpeg.
    """
    if out.suffix not in {".gif", ".mp4"}:
        raise SpecError(f"--out {out}", expected="a file .gif or .mp4", got=f"'{out.suffix}'", fix="Name one of these.")
    if out.suffix == ".mp4":
        _ffmpeg()


def write_moving(frames: Sequence[Picture], colours: Picture, out: Path, fps: float, hold_s: float) -> None:
    """Write pictures of one size as a film.

    Parameters
    ----------
    frames : sequence of array of uint8, (rows, columns, 3)
        They may be made when they are asked for. Rows and columns are even.
    colours : array of uint8, (n, 3)
        At most `MOST_COLOURS`. In a GIF every pixel takes the nearest; an mp4 has no need of them.
    out : Path
        See `check_kind`; replaced in one step.
    fps : float
        Frames per second. A GIF counts in hundredths of a second, so it takes the nearest.
    hold_s : float
        How much longer the last frame stands, in seconds.

    Raises
    ------
    SpecError
        As of `check_kind`.
    BddnError
        Where ffmpeg fails.
    """
    check_kind(out)
    if out.suffix == ".gif":
        replace_file(out, lambda aside: _write_gif(frames, colours, aside, fps, hold_s))
    else:
        program = _ffmpeg()
        replace_file(out, lambda aside: _write_mp4(program, frames, aside, fps, hold_s))


def _write_gif(frames: Sequence[Picture], colours: Picture, path: Path, fps: float, hold_s: float) -> None:
    """One table of colours for all frames, so that what stands still keeps its colour and takes no room."""
    from PIL import Image

    palette = Image.new("P", (1, 1))
    palette.putpalette(colours.tobytes())
    made = (Image.fromarray(frame).quantize(palette=palette, dither=Image.Dither.NONE) for frame in frames)
    frame_ms = 10 * max(2, round(100 / fps))  # viewers take 1 for 10
    durations = [frame_ms] * (len(frames) - 1) + [frame_ms + round(1000 * hold_s)]
    next(made).save(path, save_all=True, append_images=made, duration=durations, loop=0, disposal=1)


def _write_mp4(program: str, frames: Sequence[Picture], path: Path, fps: float, hold_s: float) -> None:
    rows, columns = frames[0].shape[:2]
    raw = ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{columns}x{rows}", "-r", f"{fps:g}", "-i", "-"]
    coded = ["-c:v", "libx264", "-crf", "18", "-pix_fmt", "yuv420p", "-bitexact", "-movflags", "+faststart"]
    command = [program, "-y", "-loglevel", "error", *raw, *coded, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE) as process:  # noqa: S603 - no shell
        assert process.stdin is not None
        with suppress(BrokenPipeError):  # it says why
            for frame in chain(frames, repeat(frames[-1], round(hold_s * fps))):
                process.stdin.write(frame.tobytes())
        said = process.communicate()[1].decode(errors="replace").strip()
    if process.returncode:
        raise BddnError(
            program,
            expected="to write the film as H.264 in mp4",
            got=said.splitlines()[-1] if said else f"exit code {process.returncode}",
            fix="Install imageio-ffmpeg, pip install 'bddn[film]', or write a .gif.",
        )


def _ffmpeg() -> str:
    """An ffmpeg: that of imageio-ffmpeg, which has H.264, or else the one on the PATH."""
    found: str | None = None
    if find_spec("imageio_ffmpeg"):
        with suppress(RuntimeError):  # it has none for this platform
            found = importlib.import_module("imageio_ffmpeg").get_ffmpeg_exe()
    found = found or shutil.which("ffmpeg")
    if found is None:
        raise SpecError(
            "--out FILE.mp4",
            expected="an ffmpeg",
            got="neither the package imageio-ffmpeg nor ffmpeg on the PATH",
            fix="Write a .gif, which needs nothing, or install one: pip install 'bddn[film]'.",
        )
    return found
