"""--scheduler: whatever is wrong with it is one message and exit code 2 within seconds, in every command."""

import http.server
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from distributed import LocalCluster
from typer.testing import CliRunner

from bddn.cli import app
from bddn.spec import CacheSpec
from bddn.store.reader import Cache

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")  # of dask's processes

SECONDS = 20.0  # of a busy machine; what is measured by itself is 0 to 6 s
WITHOUT_BDDN = """
class Nowhere:
    @staticmethod
    def find_spec(name, *_):
        if name == "bddn":
            raise ModuleNotFoundError(name=name)
sys.meta_path.insert(0, Nowhere)
"""
OTHER_BDDN = "import bddn; bddn.__version__ = '0.0.1'"
START_WORKER = "from distributed.cli.dask_worker import main; main(sys.argv[1:])"


class Places:
    """Schedulers, and what is none."""

    def __init__(self, folder: Path, empty: LocalCluster, busy: LocalCluster, silent: int, web: int) -> None:
        self.folder, self.empty, self.busy = folder, empty, busy
        self.silent, self.web = silent, web

    def file(self, text: str) -> str:
        path = self.folder / "scheduler.json"
        path.write_text(text)
        return str(path)

    @property
    def worker(self) -> str:
        return str(next(iter(self.busy.scheduler_info["workers"])))


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Places]:
    options = {"threads_per_worker": 1, "dashboard_address": ":0", "protocol": "tcp://", "processes": False}
    web = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Quiet)
    threading.Thread(target=web.serve_forever, daemon=True).start()
    with (
        socket.socket() as silent,
        LocalCluster(n_workers=0, **options) as empty,
        LocalCluster(n_workers=1, **options) as busy,
    ):
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        yield Places(tmp_path_factory.mktemp("places"), empty, busy, silent.getsockname()[1], web.server_port)
    web.shutdown()
    web.server_close()


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def arguments(brain: Path, spec: CacheSpec, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    path = tmp_path_factory.mktemp("spec") / "spec.yaml"
    path.write_text(spec.model_dump_json())
    return [str(path), "--data", f"planted:{brain}", "--device", "cpu"]


def closed_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def refused(*command: str, seconds: float = SECONDS) -> str:
    started = time.monotonic()
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 2, (result.output, result.exception)
    assert time.monotonic() - started < seconds
    said = " ".join(result.stderr.split())
    assert said.count("error: ") == 1
    assert "Traceback" not in said
    return said


BAD: dict[str, tuple[Callable[[Places], str], str]] = {
    # name: (what is given, words of the message)
    "nothing": (lambda p: "", "expected an address"),
    "no port": (lambda p: "tcp://127.0.0.1", "expected an address with a port"),
    "no scheme, no port": (lambda p: "node1", "expected an address with a port"),
    "a port alone": (lambda p: "8786", "expected an address with a port"),
    "a port in words": (lambda p: "tcp://127.0.0.1:http", "expected an address with a port"),
    "a port that cannot be": (lambda p: "tcp://127.0.0.1:99999", "expected a dask scheduler at 127.0.0.1:99999"),
    "another scheme": (lambda p: "http://127.0.0.1:8786", "an address that begins with"),
    "no such host": (lambda p: "tcp://no-such-host.invalid:8786", "a host that this machine can find"),
    "a closed port": (lambda p: f"tcp://127.0.0.1:{closed_port()}", "connection refused"),
    "something that is silent": (lambda p: f"127.0.0.1:{p.silent}", "a process that does not answer like a scheduler"),
    "a web server": (lambda p: f"tcp://127.0.0.1:{p.web}", "the dashboard has another one"),
    "TLS without keys": (lambda p: f"tls://127.0.0.1:{p.web}", "distributed.comm.tls"),
    "a worker": (lambda p: p.worker, "got the address of a dask worker"),
    "no workers": (lambda p: p.empty.scheduler_address, "expected workers; got none"),
    "no such file": (lambda p: "none.json", "expected a scheduler file; got No such file"),
    "a folder": (lambda p: "./", "expected a scheduler file; got Is a directory"),
    "an empty file": (lambda p: p.file(""), "got an empty file"),
    "half a file": (lambda p: p.file('{"type": "Scheduler", "addr'), "a file without an address"),
    "a file of a scheduler that ended": (
        lambda p: p.file(json.dumps({"id": "old", "address": f"tcp://127.0.0.1:{closed_port()}"})),
        "connection refused",
    ),
    "a file of one whose port another has now": (
        lambda p: p.file(json.dumps({"id": "old", "address": p.busy.scheduler_address})),
        "an old file: another scheduler answers",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_a_wrong_scheduler_is_refused_within_seconds(
    places: Places, arguments: list[str], tmp_path: Path, case: str
) -> None:
    given, words = BAD[case]
    said = refused("extract", *arguments, "--out", str(tmp_path / "new.zarr"), "--scheduler", given(places))
    assert words in said
    assert "--scheduler" in said
    assert not (tmp_path / "new.zarr").exists()


@pytest.mark.parametrize("case", ["no port", "a closed port", "no workers"])
def test_many_fits_refuse_the_same(places: Places, sealed: Path, brain: Path, tmp_path: Path, case: str) -> None:
    given, words = BAD[case]
    command = ["fit-many", str(sealed), "--data", f"planted:{brain}", "--out", str(tmp_path / "many")]
    assert words in refused(*command, "--scheduler", given(places))


def test_workers_and_a_scheduler_are_not_given_together(places: Places, arguments: list[str], tmp_path: Path) -> None:
    both = ["--workers", "2", "--scheduler", places.busy.scheduler_address]
    assert "--scheduler" in refused("extract", *arguments, "--out", str(tmp_path / "new.zarr"), *both)


def test_a_scheduler_is_found_by_its_file_and_without_a_scheme(
    places: Places, arguments: list[str], sealed: Path, tmp_path: Path
) -> None:
    address = places.busy.scheduler_address
    assert places.busy.scheduler is not None
    file = places.file(json.dumps({"id": places.busy.scheduler.id, "address": address, "workers": {}}))
    for i, given in enumerate([file, address.removeprefix("tcp://")]):
        out = tmp_path / f"{i}.zarr"
        result = CliRunner().invoke(app, ["extract", *arguments, "--out", str(out), "--scheduler", given])
        assert result.exit_code == 0, result.output
        assert Cache(out).digest == Cache(sealed).digest


@contextmanager
def worker_process(places: Places, before: str, *prefix: str) -> Iterator[None]:
    """A worker of the empty cluster in a process that runs some code first."""
    options = ["--no-nanny", "--nthreads", "1", "--no-dashboard"]
    command = [*prefix, sys.executable, "-c", f"import sys\n{before}\n{START_WORKER}", places.empty.scheduler_address]
    with subprocess.Popen([*command, *options], stderr=subprocess.DEVNULL, start_new_session=True) as process:
        try:
            deadline = time.monotonic() + 60
            while not places.empty.scheduler_info["workers"]:
                assert process.poll() is None
                assert time.monotonic() < deadline
                time.sleep(0.1)
            yield
        finally:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            while places.empty.scheduler_info["workers"]:
                time.sleep(0.1)


@pytest.mark.parametrize(("before", "got"), [(WITHOUT_BDDN, "none"), (OTHER_BDDN, "0.0.1")], ids=["without", "another"])
def test_workers_have_the_same_bddn(
    places: Places, arguments: list[str], tmp_path: Path, before: str, got: str
) -> None:
    with worker_process(places, before):
        out = ["--out", str(tmp_path / "new.zarr"), "--scheduler", places.empty.scheduler_address]
        assert f"as here; got {got}." in refused("extract", *arguments, *out)


def _can_hide() -> bool:
    command = ["unshare", "--mount", "sh", "-c", "mount -t tmpfs none /mnt"]
    return (
        shutil.which("unshare") is not None and not subprocess.run(command, check=False, capture_output=True).returncode
    )


@pytest.mark.skipif(not _can_hide(), reason="this user may not hide a folder from a process")
@pytest.mark.parametrize("hidden", ["cache", "data"])
def test_a_worker_on_a_machine_without_the_files_is_told(
    places: Places, arguments: list[str], brain: Path, tmp_path: Path, hidden: str
) -> None:
    """Nothing is written where nobody looks for it."""
    outs, data = tmp_path / "outs", tmp_path / "data"
    outs.mkdir()
    shutil.copytree(brain, data)
    folder = {"cache": outs, "data": data}[hidden]
    prefix = ["unshare", "--mount", "sh", "-c", f'mount -t tmpfs none "{folder}" && exec "$@"', "sh"]
    own = [f"planted:{data}" if one.startswith("planted:") else one for one in arguments]
    with worker_process(places, "", *prefix):
        out = ["--out", str(outs / "new.zarr"), "--scheduler", places.empty.scheduler_address]
        said = refused("extract", *own, *out, seconds=200)
    assert "on worker tcp://" in said
    assert "Put cache, data, weights and results on a disk that all workers see" in said
    assert not list(outs.glob("new.zarr/manifest/shard-*"))
