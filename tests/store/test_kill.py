"""Processes that are killed at any moment, or that start at once, leave a store that goes on to the same bytes.

Run as a script, this file is a server that imports torch once and then forks a process for every extraction: see
`serve`. It runs no operation of torch itself, since threads of torch do not survive a fork.
"""

import faulthandler
import json
import os
import random
import re
import select
import shutil
import signal
import subprocess
import sys
import time
import traceback
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from functools import wraps
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import torch

from bddn.extraction import extract, extraction
from bddn.files import atomic
from bddn.spec import CacheSpec
from bddn.store.files import ASIDE, FIRST, LocalFiles
from bddn.store.reader import Cache
from bddn.store.writer import Writer

LIMIT_S = 120.0
SERIES = 4  # kills at most, before a run may finish
STEPS = {"prepare": "p", "write": "w", "seal": "s"}  # of a writer, and how a process tells that it begins one
WHOLE = "whole run"
N_SHARDS, N_IMAGES = 3, 48


# --- the server, a process of its own


def serve() -> None:
    """Answer each line of orders on standard input: fork, run `extract`, perhaps kill, tell how it ended."""
    from transformers import CLIPVisionModel  # noqa: F401 # so that no child has to import it

    from bddn.backbones import vit  # noqa: F401
    from bddn.planted.subject import Planted  # noqa: F401

    sys.stdout.write("ready\n")
    sys.stdout.flush()
    for line in sys.stdin:
        order = json.loads(line)
        gate, go = os.pipe()
        children = [_fork(order, gate, go) for _ in range(order.get("n", 1))]
        os.close(gate)
        os.close(go)  # now all of them start
        ended = [_watch(pid, marks, order.get("kill")) for pid, marks in children]
        sys.stdout.write(json.dumps(ended) + "\n")
        sys.stdout.flush()


def _fork(order: dict[str, Any], gate: int, go: int) -> tuple[int, int]:
    """A process that waits for the gate to open, and then extracts. Returns its number and the pipe it tells by."""
    marks, tell = os.pipe()
    pid = os.fork()
    if pid:
        os.close(tell)
        return pid, marks
    os.close(marks)
    os.close(go)
    os.read(gate, 1)
    try:
        _extract(order, tell)
        os._exit(0)
    except BaseException:  # noqa: BLE001 # it is told, and the process ends
        os.write(tell, f"!{traceback.format_exc()[-3000:]}".encode())
        os._exit(1)


def _extract(order: dict[str, Any], tell: int) -> None:
    from bddn.planted.subject import Planted

    faulthandler.dump_traceback_later(LIMIT_S / 2)
    torch.set_num_threads(1)
    extraction.POLL_S = 0.02

    def telling(name: str, mark: str) -> Any:
        step = getattr(Writer, name)

        @wraps(step)
        def run(*args: Any, **kwargs: Any) -> Any:
            os.write(tell, mark.encode())
            return step(*args, **kwargs)

        return run

    for name, mark in STEPS.items():
        setattr(Writer, name, telling(name, mark))
    done = extract(CacheSpec.model_validate(order["spec"]), Planted(Path(order["brain"])), order["out"], device="cpu")
    os.write(tell, f"={done.n_computed}".encode())


def _watch(pid: int, marks: int, kill: dict[str, Any] | None) -> dict[str, Any]:
    """Wait for a process to end, or kill it `after_s` seconds after it began its step `at` for the nth time."""
    start, told, ended = time.monotonic(), b"", os.pidfd_open(pid)
    times: dict[str, list[float]] = {WHOLE: [0.0], **{name: [] for name in STEPS}}
    alive, killed = True, False
    while alive:
        now = time.monotonic() - start
        begun = times[kill["at"]] if kill else []
        due = begun[kill["nth"]] + kill["after_s"] if kill and len(begun) > kill["nth"] else LIMIT_S
        if now >= due and not killed:
            os.kill(pid, signal.SIGKILL)
            killed = True
        ready = select.select([marks, ended], [], [], max(0.0, due - now) if not killed else None)[0]
        if marks in ready:
            found = os.read(marks, 4096)
            told += found
            for name, mark in STEPS.items():
                times[name] += [time.monotonic() - start] * (found.split(b"!")[0].count(mark.encode()))
        alive = ended not in ready
    seconds = time.monotonic() - start
    while found := os.read(marks, 4096):
        told += found
    os.close(marks)
    os.close(ended)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    text = told.decode()
    words = text.partition("!")[2]
    numbers = re.search(r"=(\d+)", text)
    return {
        "status": status,
        "hung": status == -signal.SIGKILL and not kill,
        "error": words,
        "n_computed": int(numbers[1]) if numbers else None,
        "n_written": text.partition("!")[0].count(STEPS["write"]),
        "seconds": seconds,
        "times": times,
    }


# --- what the tests say to it


class Server:
    """Extractions in processes that share their imports."""

    def __init__(self, process: "subprocess.Popen[str]", spec: CacheSpec, brain: Path) -> None:
        self._process, self._about = process, {"spec": spec.to_dict(), "brain": str(brain)}

    def run(self, out: Path, n: int = 1, kill: dict[str, Any] | None = None) -> list[dict[str, Any]]:
        """Extract into `out` in `n` processes that start at once; one of them alone may be killed."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps({**self._about, "out": str(out), "n": n, "kill": kill}) + "\n")
        self._process.stdin.flush()
        ended: list[dict[str, Any]] = json.loads(self._process.stdout.readline())
        assert not any(one["hung"] for one in ended), "a process hung"
        return ended

    def finish(self, out: Path, n: int = 1) -> list[dict[str, Any]]:
        """The same, where nothing may go wrong."""
        ended = self.run(out, n)
        assert [one["error"] for one in ended] == [""] * n
        assert [one["status"] for one in ended] == [0] * n
        return ended


@contextmanager
def serving(spec: CacheSpec, brain: Path) -> Iterator[Server]:
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(sys.path),
        "OMP_NUM_THREADS": "1",
        "PYTHONHASHSEED": "7",
        "LC_ALL": "C",
        "TZ": "Pacific/Kiritimati",
    }
    with subprocess.Popen(
        [sys.executable, __file__],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=environment,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        yield Server(process, spec, brain)
        process.kill()


@pytest.fixture(scope="module")
def server(spec: CacheSpec, brain: Path) -> Iterator[Server]:
    with serving(spec, brain) as made:
        yield made


@pytest.fixture(scope="module")
def undisturbed(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store that nothing disturbed; read only."""
    out = tmp_path_factory.mktemp("undisturbed") / "cache.zarr"
    server.finish(out)
    return out


def files(root: Path) -> dict[str, bytes]:
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def rows(root: Path) -> dict[str, torch.Tensor]:
    cache = Cache(root)
    kinds = ("local", "global")
    return {f"{k}/{layer.name}": cache.read(k, layer.name, 0, N_IMAGES) for k in kinds for layer in cache.layers}


def same(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> bool:
    return found.keys() == expected.keys() and all(torch.equal(found[path], expected[path]) for path in found)


def recorded(found: dict[str, bytes]) -> list[int]:
    return sorted(int(name[15:21]) for name in found if name.startswith("manifest/shard-"))


def how_far(found: dict[str, bytes]) -> str:
    """How far a killed extraction had come, by what it left."""
    if "manifest/seal.json" in found:
        return "sealed, not tidied"
    if len(recorded(found)) == N_SHARDS:
        return "all shards, no seal"
    if any(
        "/c.1" in name or "/c.2" in name or (name.startswith(("local/", "global/")) and "/c." in name) for name in found
    ):
        return "in the shards"
    if "manifest/header.json" not in found:
        return "before the header"
    return "header or metadata"


def bad_rows(found: dict[str, bytes], expected: dict[str, bytes]) -> int:
    """Rows that a record vouches for but that are not what an undisturbed extraction writes."""
    bad = 0
    for shard in recorded(found):
        record = json.loads(found[f"manifest/shard-{shard:06d}.json"])
        if any(found.get(name) != expected[name] for name in record["files"]):
            bad += record["rows"][1] - record["rows"][0]
    return bad


def moments(seed: int, times: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Without end, when to kill: at any time of a whole run, or soon after one of its steps began."""
    rng = random.Random(seed)  # noqa: S311
    whole = min(one["seconds"] for one in times)
    last = {name: [one["seconds"] - one["times"][name][-1] for one in times] for name in ("prepare", "seal")}
    writing = (last["prepare"][0] - last["seal"][0]) / N_SHARDS
    after = {WHOLE: whole, "prepare": writing, "write": writing / 2, "seal": min(last["seal"])}
    while True:
        at = rng.choice([WHOLE, WHOLE, "prepare", "write", "seal"])
        yield {"at": at, "nth": rng.randrange(2) if at == "write" else 0, "after_s": rng.uniform(0, after[at])}


def test_a_process_with_another_locale_time_zone_and_hash_seed_writes_the_same_bytes(
    undisturbed: Path, sealed: Path
) -> None:
    assert files(undisturbed) == files(sealed)


# --- killed


def test_a_killed_extraction_goes_on_to_the_same_bytes(
    server: Server, undisturbed: Path, tmp_path: Path, long: bool
) -> None:
    n_kills, out = 250 if long else 15, tmp_path / "killed.zarr"
    expected, expected_rows = files(undisturbed), rows(undisturbed)
    times = []
    for _ in range(3 if long else 1):
        times += server.finish(out)
        shutil.rmtree(out)
    figures, reached = Counter[str](), Counter[str]()
    when = moments(1, times)
    while figures["kills"] < n_kills:
        n_written = 0
        for _ in range(SERIES):
            (ended,) = server.run(out, kill=next(when))
            n_written += ended["n_written"]
            assert ended["error"] == ""
            if ended["status"] == 0:
                break  # it was quicker than the kill
            figures["kills"] += 1
            found = files(out) if out.exists() else {}
            reached[how_far(found)] += 1
            figures["bad rows after a kill"] += bad_rows(found, expected)
            figures["leases of the dead"] += sum(name.startswith("manifest/lease-") for name in found)
            figures["files half-written aside"] += sum(name.startswith("manifest/aside/") for name in found)
        before = recorded(files(out)) if out.exists() else []
        sealed = (out / "manifest/seal.json").exists()
        (ended,) = server.finish(out)
        n_written += ended["n_written"]
        figures["committed shards computed again"] += 0 if sealed else ended["n_computed"] - (N_SHARDS - len(before))
        figures["shards computed again"] += n_written - N_SHARDS
        found = files(out)
        figures["stores"] += 1
        figures["stores sealed with the same bytes"] += found == expected
        figures["stores read with the same rows"] += same(rows(out), expected_rows)
        assert found == expected, {
            name for name in found.keys() | expected.keys() if found.get(name) != expected.get(name)
        }
        shutil.rmtree(out)
    assert (
        figures["stores sealed with the same bytes"] == figures["stores read with the same rows"] == figures["stores"]
    )
    assert figures["bad rows after a kill"] == 0
    assert figures["committed shards computed again"] == 0
    keep_figures("killed", long, {**figures, "where": dict(sorted(reached.items()))})


# --- at once


def test_two_extractions_at_once_share_the_work_and_write_the_same_bytes(
    server: Server, undisturbed: Path, tmp_path: Path, long: bool
) -> None:
    n_rounds, out = 100 if long else 5, tmp_path / "shared.zarr"
    expected, expected_rows = files(undisturbed), rows(undisturbed)
    figures = Counter[str]()
    for _ in range(n_rounds):
        ended = server.finish(out, n=2)
        figures["rounds"] += 1
        figures["shards computed"] += sum(one["n_written"] for one in ended)
        figures["shards claimed"] += sum(one["n_computed"] for one in ended)
        figures["rounds in which both computed"] += all(one["n_written"] for one in ended)
        found = files(out)
        assert found == expected, {
            name for name in found.keys() | expected.keys() if found.get(name) != expected.get(name)
        }
        assert same(rows(out), expected_rows)
        shutil.rmtree(out)
    assert figures["shards computed"] == N_SHARDS * n_rounds
    keep_figures("two at once", long, figures)


def test_two_extractions_at_once_claim_each_shard_once(server: Server, tmp_path: Path) -> None:
    for i in range(5):
        ended = server.finish(tmp_path / f"shared-{i}.zarr", n=2)
        assert sum(one["n_computed"] for one in ended) == N_SHARDS


def test_a_write_survives_the_sweep_of_another_job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files_, flush = LocalFiles(tmp_path), atomic.fsync_path
    files_.create(FIRST, b"{}")
    for put in (files_.replace, files_.create):
        swept: list[Path] = []

        def sweep(path: Path, swept: list[Path] = swept) -> None:
            if ASIDE in path.as_posix() and path.is_file() and not swept:
                swept.append(path)
                files_.sweep()
            flush(path)

        monkeypatch.setattr(atomic, "fsync_path", sweep)
        put(f"manifest/{put.__name__}", b"kept")
        assert swept
        assert files_.read(f"manifest/{put.__name__}") == b"kept"


# --- workers of a cluster


# --- figures

FIGURES: dict[str, Any] = {}


def keep_figures(name: str, long: bool, figures: dict[str, Any]) -> None:
    """Print figures, and keep those of long tests."""
    FIGURES[name] = dict(figures)
    if long:
        from bench.report import keep

        keep("kills", {**FIGURES, "zarr": version("zarr")})
    else:
        sys.stdout.write(json.dumps({name: FIGURES[name]}) + "\n")


if __name__ == "__main__":
    serve()
