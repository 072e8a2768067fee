"""A shard is written while the next one is computed; whatever goes wrong, the next run ends with the same bytes."""

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from bddn.errors import StoreError
from bddn.extraction import extract
from bddn.extraction.device import Arrays, as_stored, flattened, split
from bddn.extraction.extraction import prepare
from bddn.extraction.job import Job, compute_all
from bddn.extraction.source import CPU_BATCH, TokenSource
from bddn.machine.parallel import ahead
from bddn.planted.subject import Planted
from bddn.spec import CacheSpec
from bddn.store.lease import UNKNOWN_OWNER
from bddn.store.writer import Writer

WAIT_S = 60.0


class StopError(BaseException):
    """What a signal raises."""


class Steps:
    """What is written and computed in which order; the writing of a shard may be held up, or fail."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.told: list[str] = []
        self.before_write: Callable[[int], object] = lambda shard: None
        inner = Writer.write

        def write(writer: Writer, shard: int, *rest: Any) -> bool:
            self.before_write(shard)
            done = inner(writer, shard, *rest)
            self.told.append(f"written {shard}")
            return done

        monkeypatch.setattr(Writer, "write", write)
        self.n = 0

    def advance(self, n: int = 1, note: str = "", earlier: bool = False) -> None:
        self.n += n
        if self.n % 16 == 0:
            self.told.append(f"computed {self.n // 16 - 1}")


def files(root: Path) -> dict[str, bytes]:
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def left(root: Path) -> tuple[int, int]:
    """Numbers of records and of leases."""
    return len(list(root.glob("manifest/shard-*"))), len(list(root.glob("manifest/lease-*")))


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> Steps:
    return Steps(monkeypatch)


@pytest.fixture
def opened(spec: CacheSpec, planted: Planted, tmp_path: Path) -> Job:
    return prepare(spec, planted, tmp_path / "new.zarr", "cpu")[0]


def test_a_shard_is_written_while_the_next_one_is_computed_and_no_more_than_one_waits(
    opened: Job, steps: Steps, sealed: Path, tmp_path: Path
) -> None:
    computed = threading.Event()

    def hold(shard: int) -> None:
        if shard == 0:
            assert computed.wait(WAIT_S)  # the second one was computed meanwhile
            time.sleep(0.2)
            steps.told.append("writing 0")

    def advance(n: int = 1, note: str = "", earlier: bool = False) -> None:
        steps.advance(n)
        if steps.n == 32:
            computed.set()

    steps.before_write = hold
    assert compute_all(opened, [0, 1, 2], advance) == {}
    assert [word for word in steps.told if word != "written 1"] == [
        "computed 0",
        "computed 1",
        "writing 0",
        "written 0",
        "computed 2",
        "written 2",
    ]
    opened.writer.seal()
    assert files(tmp_path / "new.zarr") == files(sealed)


def test_an_error_of_the_writing_ends_the_extraction_before_the_next_shard_is_computed(
    spec: CacheSpec, planted: Planted, sealed: Path, tmp_path: Path
) -> None:
    out, failed = tmp_path / "new.zarr", threading.Event()
    with pytest.MonkeyPatch.context() as patch:
        steps = Steps(patch)

        def fail(shard: int) -> None:
            if shard == 1:
                failed.set()
                raise StoreError("disk", expected="room", got="none", fix="")

        steps.before_write = fail
        job, _ = prepare(spec, planted, out, "cpu")

        def advance(n: int = 1, note: str = "", earlier: bool = False) -> None:
            steps.advance(n)
            if 32 < steps.n < 48:  # in the third shard
                assert failed.wait(WAIT_S)
                time.sleep(0.2)

        with pytest.raises(StoreError, match="expected room"):
            compute_all(job, [0, 1, 2], advance)
        assert steps.n < 48
    assert left(out) == (1, 0)
    assert extract(spec, planted, out).n_computed == 2
    assert files(out) == files(sealed)


def test_a_signal_drops_what_is_computed_and_commits_what_is_being_written(
    opened: Job, spec: CacheSpec, planted: Planted, sealed: Path, tmp_path: Path, steps: Steps
) -> None:
    struck = threading.Event()
    steps.before_write = lambda shard: struck.wait(WAIT_S)

    def strike(n: int = 1, note: str = "", earlier: bool = False) -> None:
        steps.advance(n)
        if steps.n > 16:
            struck.set()
            raise StopError

    with pytest.raises(StopError):
        compute_all(opened, [0, 1, 2], strike)
    assert left(tmp_path / "new.zarr") == (1, 0)
    assert extract(spec, planted, tmp_path / "new.zarr").n_computed == 2
    assert files(tmp_path / "new.zarr") == files(sealed)


def test_a_shard_that_another_job_took_over_meanwhile_is_told(opened: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Writer, "write", lambda writer, shard, *rest: shard != 1)
    assert compute_all(opened, [0, 1, 2], lambda n=1, note="", earlier=False: None) == {1: UNKNOWN_OWNER}


# --- batches


class PlainDevice:
    """What stands for a device: its one copy, without CUDA."""

    def __call__(self, forward: Any, pixels: torch.Tensor, layers: Sequence[str]) -> Arrays:
        tokens = as_stored(forward(pixels), layers)
        return split(flattened(tokens).clone(), tokens)


def test_the_way_of_a_device_gives_the_tokens_of_the_cpu(
    spec: CacheSpec, planted: Planted, sealed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Decoded ahead past the ends of shards, in one copy: all but CUDA itself."""
    monkeypatch.setattr("bddn.extraction.extraction.choose_device", lambda device: "a device")
    monkeypatch.setattr("bddn.extraction.source.OnDevice", PlainDevice)
    extract(spec, planted, tmp_path / "new.zarr")
    found, expected = files(tmp_path / "new.zarr"), files(sealed)
    tokens = [name for name in expected if name.startswith(("local/", "global/"))]
    assert all(found[name] == expected[name] for name in tokens)


def test_images_are_decoded_ahead_by_a_bounded_number_and_those_of_skipped_shards_are_dropped(
    opened: Job, spec: CacheSpec
) -> None:
    begun: list[int] = []

    class Counted(TokenSource):
        def pixels(self, row: int) -> torch.Tensor:
            begun.append(row)
            return torch.tensor(row)

    plain = opened.source
    source = Counted(spec, plain.backbone, plain.stimuli, plain.images, plain.layout, "a device", 1)
    with source.prefetch(range(48)) as images:
        assert begun == []
        assert [image().item() for image in images.request(range(6))] == list(range(6))
        assert max(begun) <= 5 + 2 * 6
        assert [image().item() for image in images.request(range(32, 38))] == list(range(32, 38))
        assert [image().item() for image in images.request(range(38, 48))] == list(range(38, 48))


def test_batches_on_a_cpu_are_cut_alike_on_every_machine(opened: Job, spec: CacheSpec, planted: Planted) -> None:
    sizes: dict[int, list[int]] = {}
    for threads in (1, 3):
        large = replace(opened.source, spec=spec.model_copy(update={"batch_size": 100}), threads=threads)
        counted: list[int] = []
        with large.prefetch(range(20)) as images:
            large.read(0, 20, images, counted.append)
        sizes[threads] = counted
    assert sizes[1] == sizes[3] == [CPU_BATCH, CPU_BATCH, 20 - 2 * CPU_BATCH]


def test_work_ahead_is_bounded_in_order_and_dropped_where_it_ends_early() -> None:
    taken: list[int] = []

    def items() -> Any:
        for i in range(100):
            taken.append(i)
            yield i

    results = ahead(lambda i: i * i, items(), 3)
    assert [next(results) for _ in range(4)] == [0, 1, 4, 9]
    assert len(taken) == 6
    results.close()
    assert len(taken) == 6
    assert list(ahead(lambda i: -i, range(5), 10)) == [0, -1, -2, -3, -4]
