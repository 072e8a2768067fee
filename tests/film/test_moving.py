"""Moving pictures become files: a GIF anywhere, an mp4 where there is an ffmpeg."""

import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bddn.errors import BddnError, SpecError
from bddn.film import moving
from bddn.film.moving import Picture, check_kind, write_moving
from film.learned import read_gif

COLOURS = np.array([[255, 255, 255], [0, 0, 0], [200, 30, 30], [30, 30, 200]], np.uint8)


def frames(n: int = 4) -> list[Picture]:
    """A red bar that moves down on white."""
    made = []
    for k in range(n):
        picture = np.full((20, 30, 3), 255, np.uint8)
        picture[4 * k : 4 * k + 3] = COLOURS[2]
        made.append(picture)
    return made


def _script(folder: Path, body: str) -> None:
    """An ffmpeg that does what the test wants."""
    folder.mkdir(exist_ok=True)
    (folder / "ffmpeg").write_text(f"#!{sys.executable}\nimport sys\nfrom pathlib import Path\n{body}\n")
    (folder / "ffmpeg").chmod(0o755)


@pytest.fixture
def no_package(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """No imageio-ffmpeg, and a PATH of one folder, which is given."""
    monkeypatch.setattr(moving, "find_spec", lambda name: None)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    return tmp_path / "bin"


def test_a_gif_has_the_frames_and_their_times(tmp_path: Path) -> None:
    write_moving(frames(), COLOURS, tmp_path / "a.gif", fps=12.5, hold_s=1.5)
    found, durations = read_gif(tmp_path / "a.gif")
    np.testing.assert_array_equal(found, frames())
    assert durations == [80, 80, 80, 1580]
    with Image.open(tmp_path / "a.gif") as image:
        assert image.info["loop"] == 0  # for ever


def test_a_gif_is_the_same_each_time(tmp_path: Path) -> None:
    for name in ("a.gif", "b.gif"):
        write_moving(frames(), COLOURS, tmp_path / name, 10, 1.0)
    assert (tmp_path / "a.gif").read_bytes() == (tmp_path / "b.gif").read_bytes()


def test_frames_that_do_not_move_are_shown_as_long(tmp_path: Path) -> None:
    write_moving([frames(1)[0]] * 3, COLOURS, tmp_path / "a.gif", 10, 1.0)
    assert read_gif(tmp_path / "a.gif")[1] == [1300]


def test_an_mp4_gets_every_frame_and_the_last_one_longer(no_package: Path, tmp_path: Path) -> None:
    _script(no_package, "Path(sys.argv[-1]).write_bytes(' '.join(sys.argv).encode() + b'|' + sys.stdin.buffer.read())")
    write_moving(frames(), COLOURS, tmp_path / "a.mp4", 10, 1.5)
    words, _, raw = (tmp_path / "a.mp4").read_bytes().partition(b"|")
    assert b"-s 30x20 -r 10 " in words
    assert raw == b"".join(frame.tobytes() for frame in [*frames(), *[frames()[-1]] * 15])


def test_an_ffmpeg_that_fails_is_one_message(no_package: Path, tmp_path: Path) -> None:
    _script(no_package, "sys.stderr.write('first\\nUnknown encoder libx264\\n'); sys.exit(3)")
    with pytest.raises(BddnError, match="got Unknown encoder libx264"):
        write_moving(frames(), COLOURS, tmp_path / "a.mp4", 10, 0)
    assert [path.name for path in tmp_path.iterdir()] == ["bin"]


@pytest.mark.usefixtures("no_package")
def test_without_ffmpeg_the_way_out_is_named(tmp_path: Path) -> None:
    check_kind(tmp_path / "a.gif")
    with pytest.raises(SpecError, match=r"imageio-ffmpeg nor ffmpeg on the PATH\. Write a \.gif"):
        check_kind(tmp_path / "a.mp4")


@pytest.mark.parametrize("name", ["a.avi", "a", "a.gif.png"])
def test_other_files_are_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"a \.gif or \.mp4 file"):
        check_kind(tmp_path / name)


def test_a_real_ffmpeg_writes_an_mp4(tmp_path: Path) -> None:
    try:
        check_kind(tmp_path / "a.mp4")
    except SpecError:
        pytest.skip("no ffmpeg")
    write_moving(frames(), COLOURS, tmp_path / "a.mp4", 10, 1.0)
    assert (tmp_path / "a.mp4").read_bytes()[4:8] == b"ftyp"
