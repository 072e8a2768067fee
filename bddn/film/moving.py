"""Write films: GIF with Pillow, mp4 with ffmpeg from the package imageio-ffmpeg or from the PATH."""

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

MAX_COLOURS = 255
"""Largest number of colours in a GIF; one more index marks unchanged pixels."""

Picture = npt.NDArray[np.uint8]
"""An image (rows, columns, 3) of red, green and blue, or (rows, columns, 4) with opacity."""


def check_kind(out: Path) -> None:
    """Refuse a film file that cannot be written, before anything is drawn.

    Parameters
    ----------
    out : Path

    Raises
    ------
    SpecError
        If it is neither .gif nor .mp4, or is .mp4 and ffmpeg is missing.
    """
    if out.suffix not in {".gif", ".mp4"}:
        raise SpecError(f"--out {out}", expected="a .gif or .mp4 file", got=f"'{out.suffix}'", fix="Rename the file.")
    if out.suffix == ".mp4":
        _ffmpeg()


def write_moving(frames: Sequence[Picture], colours: Picture, out: Path, fps: float, hold_s: float) -> None:
    """Write frames of one size as a film.

    Parameters
    ----------
    frames : sequence of array of uint8, (rows, columns, 3)
        The frames, which may be drawn on demand. The numbers of rows and columns are even.
    colours : array of uint8, (n, 3)
        At most `MAX_COLOURS` colours. In a GIF every pixel gets the nearest colour; an mp4 ignores them.
    out : Path
        A .gif or .mp4 file, which is replaced atomically.
    fps : float
        Frames per second. In a GIF, the duration of a frame is rounded to hundredths of a second.
    hold_s : float
        Additional duration of the last frame, in seconds.

    Raises
    ------
    SpecError
        The same errors as `check_kind`.
    BddnError
        If ffmpeg fails.
    """
    check_kind(out)
    if out.suffix == ".gif":
        replace_file(out, lambda path: _write_gif(frames, colours, path, fps, hold_s))
    else:
        program = _ffmpeg()
        replace_file(out, lambda path: _write_mp4(program, frames, path, fps, hold_s))


def _write_gif(frames: Sequence[Picture], colours: Picture, path: Path, fps: float, hold_s: float) -> None:
    """Write a GIF with one palette for all frames, so that static pixels keep their colour and need no space."""
    from PIL import Image

    palette = Image.new("P", (1, 1))
    palette.putpalette(colours.tobytes())
    images = (Image.fromarray(frame).quantize(palette=palette, dither=Image.Dither.NONE) for frame in frames)
    frame_ms = 10 * max(2, round(100 / fps))  # at least 20 ms, because viewers show 10 ms as 100 ms
    durations = [frame_ms] * (len(frames) - 1) + [frame_ms + round(1000 * hold_s)]
    next(images).save(path, save_all=True, append_images=images, duration=durations, loop=0, disposal=1)


def _write_mp4(program: str, frames: Sequence[Picture], path: Path, fps: float, hold_s: float) -> None:
    rows, columns = frames[0].shape[:2]
    raw = ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{columns}x{rows}", "-r", f"{fps:g}", "-i", "-"]
    coded = ["-c:v", "libx264", "-crf", "18", "-pix_fmt", "yuv420p", "-bitexact", "-movflags", "+faststart"]
    command = [program, "-y", "-loglevel", "error", *raw, *coded, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE) as process:  # noqa: S603 - no shell
        assert process.stdin is not None
        with suppress(BrokenPipeError):  # ffmpeg's own message gives the cause
            for frame in chain(frames, repeat(frames[-1], round(hold_s * fps))):
                process.stdin.write(frame.tobytes())
        message = process.communicate()[1].decode(errors="replace").strip()
    if process.returncode:
        raise BddnError(
            program,
            expected="an ffmpeg that writes H.264 in mp4",
            got=message.splitlines()[-1] if message else f"exit code {process.returncode}",
            fix="Install imageio-ffmpeg with pip install 'bddn[film]', or write a .gif.",
        )


def _ffmpeg() -> str:
    """Return the path of ffmpeg from imageio-ffmpeg, which supports H.264, or else from the PATH."""
    program: str | None = None
    if find_spec("imageio_ffmpeg"):
        with suppress(RuntimeError):  # raised if the package has no ffmpeg for this platform
            program = importlib.import_module("imageio_ffmpeg").get_ffmpeg_exe()
    program = program or shutil.which("ffmpeg")
    if program is None:
        raise SpecError(
            "--out FILE.mp4",
            expected="an installed ffmpeg",
            got="neither the package imageio-ffmpeg nor ffmpeg on the PATH",
            fix="Write a .gif, which needs no ffmpeg, or install it with pip install 'bddn[film]'.",
        )
    return program
