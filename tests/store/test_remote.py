"""A store in a bucket is the store on a disk: same files, same checks; what fails on the way is an error, never a fill.

The bucket is that of an S3 server on loopback, with a fault in front of it where a test wants one.
"""

import logging
import pickle
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from moto.backends import get_backend
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, MotoRequestHandler, create_backend_app
from werkzeug.serving import make_server

from bddn.errors import CorruptStoreError, IncompleteStoreError, StoreError
from bddn.extraction import extract
from bddn.extraction.extraction import prepare
from bddn.extraction.job import compute_all
from bddn.planted.subject import Planted
from bddn.run import fit_run
from bddn.spec import CacheSpec, FitSpec
from bddn.store import remote
from bddn.store.files import Files, LocalFiles
from bddn.store.lease import Lease, LeaseMonitor
from bddn.store.reader import Cache
from bddn.store.remote import RemoteFiles, open_files
from bddn.testing import StoreContract

SECRET = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
BUCKET = "bddn"
QUICK_S = 15.0  # within which any failure must be told here; a user's limit is `LIMIT_S`
NAME = "local/block_1/c.1.0.0.0"

Environ = dict[str, Any]
Answer = Iterable[bytes]
Fault = Callable[[Environ, Callable[..., Any]], Answer | None]


class Quiet(MotoRequestHandler):
    """Requests are in `Server.log`, not on the screen."""

    def log(self, *_: object) -> None:
        pass


class Server:
    """An S3 server that writes down what it is asked, does one thing at a time as S3 promises, and may fail."""

    def __init__(self) -> None:
        get_backend("s3").reset()  # moto's buckets are those of the process; another test file may have made them
        self._moto = DomainDispatcherApplication(create_backend_app)
        self._one = threading.RLock()
        self.log: list[tuple[str, str]] = []
        self.fault: Fault | None = None
        self._http = make_server("127.0.0.1", 0, self, threaded=True, request_handler=Quiet)
        self.url = f"http://127.0.0.1:{self._http.server_port}"
        threading.Thread(target=self._http.serve_forever, daemon=True).start()

    def __call__(self, environ: Environ, start_response: Callable[..., Any]) -> Answer:
        self.log.append((environ["REQUEST_METHOD"], environ["PATH_INFO"]))
        answer = self.fault(environ, start_response) if self.fault else None
        return self.answer(environ, start_response) if answer is None else answer

    def answer(self, environ: Environ, start_response: Callable[..., Any]) -> Answer:
        """What a server without faults answers."""
        with self._one:
            return list(self._moto(environ, start_response))

    def asked(self, method: str, name: str) -> int:
        """How often something was asked of a file."""
        return sum(1 for verb, path in self.log if verb == method and path.endswith(f"/{name}"))

    def stop(self) -> None:
        self._http.shutdown()
        self._http.server_close()


def refuse(status: str, code: str, message: str = "so it is") -> Fault:
    """A fault: an answer of S3's that says no."""

    def fault(environ: Environ, start_response: Callable[..., Any]) -> Answer:
        environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        body = f"<Error><Code>{code}</Code><Message>{message}</Message></Error>".encode()
        start_response(status, [("Content-Type", "application/xml"), ("Content-Length", str(len(body)))])
        return [body]

    return fault


def hang_up(environ: Environ, _: Callable[..., Any]) -> Answer:
    """A fault: no answer and no connection any more."""
    environ["werkzeug.socket"].shutdown(socket.SHUT_RDWR)
    return []


def only(method: str, name: str, fault: Fault, times: int = 1000) -> Fault:
    """A fault of some requests only: a method, the end of the path, and how often."""
    left = iter(range(times))

    def some(environ: Environ, start_response: Callable[..., Any]) -> Answer | None:
        fits = environ["REQUEST_METHOD"] == method and environ["PATH_INFO"].endswith(name)
        return fault(environ, start_response) if fits and next(left, None) is not None else None

    return some


def cut_short(server: Server) -> Fault:
    """A fault: headers that promise the whole body, half of it, and no connection any more."""

    def fault(environ: Environ, start_response: Callable[..., Any]) -> Answer:
        body = b"".join(server.answer(environ, start_response))
        yield body[: len(body) // 2]
        environ["werkzeug.socket"].shutdown(socket.SHUT_RDWR)

    return fault


def lose_answer(server: Server) -> Fault:
    """A fault: the request is done, its answer lost."""

    def fault(environ: Environ, start_response: Callable[..., Any]) -> Answer:
        server.answer(environ, lambda *_: None)
        return hang_up(environ, start_response)

    return fault


def everything(files: Files) -> dict[str, bytes]:
    return {name: files.read(name) or b"" for name in files.sizes()}


def copy(source: Path, url: str) -> Files:
    files = open_files(url)
    for name, data in everything(open_files(source)).items():
        files.replace(name, data)
    return files


def words(error: BaseException | None) -> str:
    """All that a traceback would show of an error."""
    shown = []
    while error is not None:
        shown.append(f"{type(error).__name__}: {error} {error!r}")
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return "\n".join(shown)


@pytest.fixture(scope="module")
def running() -> Iterator[Server]:
    with pytest.MonkeyPatch.context() as patch:
        server = Server()
        point_at(server.url, patch)
        RemoteFiles(f"s3://{BUCKET}")._open()[0].mkdir(BUCKET)
        yield server
        server.stop()


@pytest.fixture
def server(running: Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """An S3 server without faults so far, and the environment that leads to it."""
    point_at(running.url, monkeypatch)
    running.log.clear()
    yield running
    running.fault = None


def point_at(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL_S3"):
        monkeypatch.delenv(name, raising=False)
    settings = {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ACCESS_KEY_ID": "AKIAIOSFODNN7EXAMPLE",
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_CONFIG_FILE": "/dev/null",
        "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_MAX_ATTEMPTS": "1",
        "NO_PROXY": "127.0.0.1",
    }
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("s3fs.S3FileSystem.retries", 2)  # what takes it seconds takes a user's five a minute


@pytest.fixture
def bucket(server: Server, tmp_path: Path) -> str:
    """A place in the bucket, of this test alone."""
    return f"s3://{BUCKET}{tmp_path}/clip.zarr"


@pytest.fixture(params=["s3", "memory"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A place in a bucket or in this process's memory."""
    return request.getfixturevalue("bucket") if request.param == "s3" else f"memory:/{tmp_path}/clip.zarr"


# --- the same store


class TestRemoteFiles(StoreContract):
    """In a bucket, and in this process's memory."""

    @pytest.fixture
    def place_files(self, url: str) -> Files:
        return open_files(url)


def test_an_extraction_gives_the_files_and_the_digest_of_one_on_a_disk_and_keeps_its_credentials_to_itself(
    url: str,
    spec: CacheSpec,
    planted: Planted,
    sealed: Path,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    caplog.set_level(logging.INFO)
    done = extract(spec, planted, url)
    assert done.digest == Cache(sealed).digest
    assert extract(spec, planted, url).reused
    found = everything(open_files(url))
    assert found == everything(open_files(sealed))
    shown = [*found.values(), *(text.encode() for text in (caplog.text, *capfd.readouterr(), repr(vars(Cache(url)))))]
    for secret in (SECRET, "EXAMPLE", "127.0.0.1"):
        assert not any(secret.encode() in one for one in shown)


def test_an_extraction_that_lost_its_server_goes_on_where_it_stopped(
    server: Server, bucket: str, spec: CacheSpec, planted: Planted, sealed: Path
) -> None:
    down = threading.Event()

    def fault(environ: Environ, start_response: Callable[..., Any]) -> Answer | None:
        if environ["REQUEST_METHOD"] == "PUT" and environ["PATH_INFO"].endswith("global/block_1/c.1.0"):
            down.set()  # in the middle of the second shard
        return hang_up(environ, start_response) if down.is_set() else None

    server.fault = fault
    begin = time.monotonic()
    with pytest.raises(StoreError, match=r"s3://bddn/.*/clip\.zarr/.*what was committed is kept"):
        extract(spec, planted, bucket)
    assert time.monotonic() - begin < QUICK_S
    server.fault = None
    with pytest.raises(IncompleteStoreError, match="1 of 3 shards"):
        Cache(bucket)
    assert extract(spec, planted, bucket).n_computed == 2
    assert server.asked("PUT", "local/block_0/c.0.0.0.0") == 1
    assert everything(open_files(bucket)) == everything(open_files(sealed))


def test_a_cache_in_a_bucket_gives_the_rows_of_the_one_on_the_disk(url: str, sealed: Path) -> None:
    copy(sealed, url)
    found, expected = Cache(url), Cache(sealed)
    assert (found.ids, found.layers, found.digest, found.name) == (
        expected.ids,
        expected.layers,
        expected.digest,
        "clip",
    )
    for kind in ("local", "global"):
        for start, stop in ((0, 48), (3, 5), (14, 33)):
            rows = found.read(kind, "block_1", start, stop)
            assert np.array_equal(rows, expected.read(kind, "block_1", start, stop))


def test_a_fit_on_a_bucket_is_the_fit_on_the_disk(bucket: str, sealed: Path, planted: Planted, tmp_path: Path) -> None:
    copy(sealed, bucket)
    settings = FitSpec(epochs=1, channels=8)
    runs = [
        fit_run(place, planted, tmp_path / name, settings)[0] for name, place in (("a", bucket), ("b", str(sealed)))
    ]
    assert runs[0].metrics["cache_digest"] == runs[1].metrics["cache_digest"]
    assert runs[0].voxels.equals(runs[1].voxels)


# --- other bytes


def flip(files: Files) -> None:
    data = bytearray(files.read(NAME) or b"")
    data[len(data) // 2] ^= 1
    files.replace(NAME, bytes(data))


def cut(files: Files) -> None:
    whole = files.read(NAME) or b""
    files.replace(NAME, whole[: len(whole) // 2])


def empty(files: Files) -> None:
    files.replace(NAME, b"")


def remove(files: Files) -> None:
    files.delete(NAME)


def swap(files: Files) -> None:
    other = NAME.replace("c.1", "c.0")
    first, second = files.read(NAME), files.read(other)
    files.replace(NAME, second or b"")
    files.replace(other, first or b"")


@pytest.mark.parametrize("damage", [flip, cut, empty, remove, swap])
def test_an_object_that_is_not_what_was_sealed_is_an_error_that_names_it(
    url: str, sealed: Path, damage: Callable[[Files], None]
) -> None:
    files = copy(sealed, url)
    used = Cache(url)
    used.read("local", "block_1", 0, 48)
    damage(files)
    with pytest.raises(CorruptStoreError, match=r"block_1/c\.[01]"):
        Cache(url).read("local", "block_1", 0, 48)
    with pytest.raises(CorruptStoreError, match="block_1"):
        used.read("local", "block_1", 0, 48)


# --- several at once


def test_two_extractions_at_once_write_every_object_once(
    server: Server, bucket: str, spec: CacheSpec, planted: Planted, sealed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bddn.extraction.extraction.POLL_S", 0.05)
    with ThreadPoolExecutor(2) as pool:
        done = list(pool.map(lambda _: extract(spec, planted, bucket), range(2)))
    assert {one.digest for one in done} == {Cache(sealed).digest}
    shards = [name for name in open_files(sealed).sizes() if "/c." in name and "block" in name]
    assert {server.asked("PUT", name) for name in shards} == {1}
    assert everything(open_files(bucket)) == everything(open_files(sealed))


def test_of_eight_threads_one_takes_a_lease_and_the_others_learn_whose_it_is(bucket: str) -> None:
    files = open_files(bucket)
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: LeaseMonitor(files).take(3), range(8)))
    leases = [one for one in found if isinstance(one, Lease)]
    assert len(leases) == 1
    with leases[0] as lease:
        assert lease.is_held()
    assert files.sizes() == {}


def test_files_can_be_sent_to_other_processes_and_used_in_many_threads(bucket: str) -> None:
    files = open_files(bucket)
    files.replace("a", b"123456")
    sent = pickle.loads(pickle.dumps(files))  # noqa: S301
    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(lambda k: sent.read("a", k % 6, 6), range(32))) == {b"123456"[k:] for k in range(6)}


# --- many at once


def put_many(files: Files, n: int) -> list[str]:
    names = [f"manifest/shard-{i:06d}.json" for i in range(n)]
    for name in [*names, "manifest/header.json"]:
        files.replace(name, b"{}")
    return names


def test_many_are_deleted_with_few_requests(server: Server, bucket: str) -> None:
    files = open_files(bucket)
    names = put_many(files, 30)
    server.log.clear()
    files.delete_all([*names, "manifest/gone"])
    assert sorted(files.sizes()) == ["manifest/header.json"]
    assert len(server.log) <= 4
    files.delete_all([])


def omit(server: Server) -> Fault:
    """A fault: an answer that says that all is well, and of a part of the objects says in its body that it is not."""

    def fault(environ: Environ, start_response: Callable[..., Any]) -> Answer:
        environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"]))
        body = b"<DeleteResult><Error><Key>manifest/a</Key><Code>InternalError</Code></Error></DeleteResult>"
        start_response("200 OK", [("Content-Type", "application/xml"), ("Content-Length", str(len(body)))])
        return [body]

    return fault


@pytest.mark.parametrize(
    "fault",
    [
        lambda server: refuse("501 Not Implemented", "NotImplemented"),
        lambda server: refuse("403 Forbidden", "No"),
        omit,
    ],
    ids=["not known", "not allowed", "omitted"],
)
def test_many_are_deleted_where_a_server_cannot_delete_many_at_once(
    server: Server, bucket: str, fault: Callable[[Server], Fault]
) -> None:
    files = open_files(bucket)
    names = put_many(files, 5)
    server.fault = only("POST", "", fault(server))
    files.delete_all(names)
    assert sorted(files.sizes()) == ["manifest/header.json"]


def test_a_place_with_letters_of_patterns_loses_only_its_own_files(bucket: str) -> None:
    odd, other = open_files(bucket.replace("clip", "cl[i]p*")), open_files(bucket)
    names = put_many(odd, 3)
    put_many(other, 3)
    odd.delete_all(names)
    assert sorted(odd.sizes()) == ["manifest/header.json"]
    assert len(other.sizes()) == 4


def test_a_record_that_a_store_lists_late_is_found_by_its_name(
    bucket: str, spec: CacheSpec, planted: Planted, sealed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not every object store lists at once what was just put."""
    sizes = RemoteFiles.sizes

    def late(self: RemoteFiles, folder: str = "") -> dict[str, int]:
        return {name: size for name, size in sizes(self, folder).items() if "shard-" not in name}

    monkeypatch.setattr("bddn.store.writer.MAX_LOOKUPS", 2)
    monkeypatch.setattr(RemoteFiles, "sizes", late)
    monkeypatch.setattr("bddn.extraction.extraction.POLL_S", 0.05)
    first, _ = prepare(spec, planted, bucket, "cpu")
    compute_all(first, [0, 1], lambda *args, **options: None)
    assert first.writer.uncommitted([0, 1]) == []
    assert [first.writer.is_committed(shard) for shard in range(3)] == [True, True, False]
    monkeypatch.setattr("bddn.store.writer.MAX_LOOKUPS", 64)
    done = extract(spec, planted, bucket, device="cpu")
    assert done.digest == Cache(sealed).digest
    assert done.n_computed == 1


# --- answers that S3 and its kin give


def test_an_own_write_whose_answer_was_lost_is_known_as_ones_own(server: Server, bucket: str) -> None:
    files = open_files(bucket)
    server.fault = only("PUT", "/mine", lose_answer(server), times=1)
    assert files.create("mine", b"nonce 1")
    assert server.asked("PUT", "mine") == 2


def test_another_write_that_came_between_is_known_as_anothers(server: Server, bucket: str) -> None:
    files, other = open_files(bucket), open_files(bucket)

    def fault(*_: object) -> None:
        server.fault = None
        assert other.create("theirs", b"nonce 2")

    server.fault = only("PUT", "/theirs", fault)
    assert not files.create("theirs", b"nonce 1")
    assert files.read("theirs") == b"nonce 2"


@pytest.mark.parametrize(
    ("status", "code", "n_asked"),
    [("409 Conflict", "ConditionalRequestConflict", 2), ("501 Not Implemented", "NotImplemented", 2)],
)
def test_a_new_file_is_made_where_a_server_is_busy_with_it_or_knows_no_conditions(
    server: Server, bucket: str, status: str, code: str, n_asked: int
) -> None:
    server.fault = only("PUT", "/new", refuse(status, code), times=1)
    assert open_files(bucket).create("new", b"nonce")
    assert open_files(bucket).read("new") == b"nonce"
    assert server.asked("PUT", "new") == n_asked


def test_a_refusal_without_the_name_of_its_condition_is_understood(server: Server, bucket: str) -> None:
    server.fault = only("PUT", "/new", refuse("412 Precondition Failed", "PreconditionFailed"))
    assert not open_files(bucket).create("new", b"nonce")


@pytest.mark.parametrize("size", [0, 1, 999, 1000, 1001, 2000, 2500])
def test_large_objects_are_read_in_blocks(url: str, size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "BLOCK_BYTES", 1000)
    files, data = open_files(url), np.random.default_rng(size).bytes(size)
    files.replace("large", data)
    assert files.read("large") == data
    assert b"".join(files.blocks("large")) == data
    assert max((len(block) for block in files.blocks("large")), default=0) <= 1000
    for start, stop in ((0, 1500), (700, 2100), (999, 1001), (5, 5), (1000, 2000), (0, 10_000)):
        assert files.read("large", start, stop) == data[start:stop]
        memory = bytearray(stop - start)
        n, _ = files.read_into("large", start, [memoryview(memory)])
        assert bytes(memory[:n]) == data[start:stop]
        pieces = [memoryview(bytearray((stop - start) // 3)) for _ in range(3)]
        n, _ = files.read_into("large", start, pieces)
        assert b"".join(pieces)[:n] == data[start : start + sum(map(len, pieces))]


def test_a_listing_is_never_an_old_one_and_has_only_files_of_the_store(bucket: str) -> None:
    files, other = open_files(bucket), open_files(bucket)
    assert files.sizes() == {}
    other.replace("manifest/a", b"12")
    open_files(f"{bucket}2").replace("manifest/b", b"")
    fs, root = RemoteFiles(bucket)._open()
    fs.pipe_file(f"{root}/manifest/", b"")  # as consoles mark a folder
    assert files.sizes() == files.sizes("manifest") == {"manifest/a": 2}
    other.replace("manifest/a", b"123")
    assert files.sizes() == {"manifest/a": 3}
    other.delete("manifest/a")
    assert files.sizes() == {}
    assert open_files(f"{bucket}2").sizes() == {"manifest/b": 0}


# --- what fails


ACTIONS: list[Callable[[Files], object]] = [
    lambda files: files.read("a"),
    lambda files: files.sizes(),
    lambda files: files.replace("a", b"1"),
    lambda files: files.create("b", b"1"),
    lambda files: files.delete("a"),
]


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        (refuse("403 Forbidden", "AccessDenied", "Access Denied"), "Access Denied.*credentials.*rights"),
        (refuse("400 Bad Request", "InvalidToken", "malformed"), "malformed.*credentials"),
        (refuse("404 Not Found", "NoSuchBucket"), "no such bucket.*Create the bucket"),
        (refuse("500 Internal Server Error", "InternalError", "we failed"), "we failed.*run the same command again"),
        (hang_up, "run the same command again"),
    ],
    ids=["403", "token", "bucket", "500", "reset"],
)
def test_a_server_that_refuses_or_breaks_is_an_error_with_the_next_step(
    server: Server, bucket: str, fault: Fault, told: str
) -> None:
    files = open_files(bucket)
    server.fault = fault
    for action in ACTIONS:
        begin = time.monotonic()
        with pytest.raises(StoreError, match=told) as caught:
            action(files)
        assert time.monotonic() - begin < QUICK_S
        assert caught.value.place.startswith(bucket)
        assert SECRET not in words(caught.value)


def test_a_bucket_that_is_not_there_is_named_before_any_work(server: Server, spec: CacheSpec, planted: Planted) -> None:
    with pytest.raises(StoreError, match=r"s3://absent/clip\.zarr.*no such bucket"):
        extract(spec, planted, "s3://absent/clip.zarr")
    with pytest.raises(StoreError, match="no such bucket"):
        Cache("s3://absent/clip.zarr")
    assert not any(method == "PUT" for method, _ in server.log)


def test_a_server_that_is_not_there_is_told_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        point_at(f"http://127.0.0.1:{closed.getsockname()[1]}", monkeypatch)
        begin = time.monotonic()
        with pytest.raises(StoreError, match=r"connect.*Check the address and the network"):
            Cache(f"s3://{BUCKET}/clip.zarr")
    assert time.monotonic() - begin < QUICK_S


def test_a_server_that_never_answers_is_given_up_in_time(
    server: Server, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    files, done = open_files(bucket), threading.Event()

    def wait(*_: object) -> None:
        done.wait(QUICK_S)

    files.sizes()
    monkeypatch.setattr(remote, "LIMIT_S", 0.6)
    server.fault = wait
    for action in ACTIONS:
        begin = time.monotonic()
        with pytest.raises(StoreError, match=r"no answer within 1 s.*run the same command again"):
            action(files)
        assert time.monotonic() - begin < QUICK_S / 2
    done.set()


def test_a_connection_that_breaks_in_a_body_is_tried_again(server: Server, bucket: str, sealed: Path) -> None:
    files = copy(sealed, bucket)
    server.fault = only("GET", NAME, cut_short(server), times=1)
    assert files.read(NAME) == open_files(sealed).read(NAME)
    assert server.asked("GET", NAME) == 2


def test_a_connection_that_always_breaks_is_an_error_and_never_a_fill(
    server: Server, bucket: str, sealed: Path
) -> None:
    copy(sealed, bucket)
    cache = Cache(bucket)
    server.fault, begin = only("GET", NAME, cut_short(server)), time.monotonic()
    with pytest.raises(StoreError, match=NAME):
        cache.read("local", "block_1", 0, 48)
    assert time.monotonic() - begin < QUICK_S


def test_a_server_that_asks_to_slow_down_is_asked_again(server: Server, bucket: str) -> None:
    files = open_files(bucket)
    server.fault = only("PUT", "/a", refuse("503 Slow Down", "SlowDown"), times=1)
    files.replace("a", b"1")
    assert files.read("a") == b"1"


# --- secrets and addresses


@pytest.mark.parametrize(
    "address",
    [
        f"s3://AKIAIOSFODNN7EXAMPLE:{SECRET}@bddn/clip.zarr",
        "s3://hunter2@bddn/clip.zarr",
        "s3://bddn/clip.zarr?X-Amz-Signature=hunter2",
        "https://me:hunter2@127.0.0.1/clip.zarr?token=hunter2",
    ],
)
def test_an_address_with_credentials_is_refused_and_not_repeated(address: str) -> None:
    with pytest.raises(StoreError, match=r"clip\.zarr: expected a URL without.*Give credentials") as caught:
        open_files(address)
    assert not any(secret in words(caught.value) for secret in ("hunter2", "EXAMPLE", SECRET))


@pytest.mark.parametrize("password", ["hunter2", "hunter%402", "hun/ter2@", "hunter2:x"])
def test_a_password_that_an_address_must_have_is_not_shown(password: str) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        host = f"127.0.0.1:{closed.getsockname()[1]}"
        files = open_files(f"ftp://me:{password}@{host}/clip.zarr")
        assert files.place == f"ftp://***@{host}/clip.zarr"
        assert "hun" not in repr(files)
        with pytest.raises(StoreError) as caught:
            files.sizes()
    assert "hun" not in words(caught.value)


def test_a_password_in_the_address_of_the_endpoint_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        point_at(f"http://me:hunter2@127.0.0.1:{closed.getsockname()[1]}", monkeypatch)
        with pytest.raises(StoreError, match=r"bddn/clip\.zarr") as caught:
            open_files(f"s3://{BUCKET}/clip.zarr").sizes()
    assert "hunter2" not in str(caught.value)


def test_credentials_that_are_not_there_are_told(server: Server, bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    with pytest.raises(StoreError, match="Check the credentials"):
        open_files(bucket).sizes()
    monkeypatch.setenv("AWS_PROFILE", "absent")
    with pytest.raises(StoreError, match=r"absent.*Check the credentials"):
        open_files(bucket).sizes()


def test_a_scheme_that_nothing_can_open_is_an_error_that_names_it() -> None:
    with pytest.raises(StoreError, match=r"s4://bddn/clip\.zarr.*s4"):
        open_files("s4://bddn/clip.zarr").sizes()


def test_addresses_of_this_machine_are_folders_and_a_path_that_lost_a_slash_is_an_address() -> None:
    for place in ("/tmp/clip.zarr", Path("/tmp/clip.zarr"), "file:///tmp/clip.zarr"):  # noqa: S108
        files = open_files(place)
        assert isinstance(files, LocalFiles)
        assert files.place == "/tmp/clip.zarr"  # noqa: S108
    assert open_files(Path("s3://bddn/clip.zarr")).place == "s3://bddn/clip.zarr"
    assert isinstance(open_files(Path("s3:clip.zarr")), LocalFiles)


def test_s3_is_imported_only_for_a_bucket() -> None:
    code = """if True:
        import sys
        from bddn.store.remote import open_files
        open_files("clip.zarr").sizes(), open_files("memory://clip.zarr").sizes(), open_files("s3://bddn/clip.zarr")
        assert not {"s3fs", "aiobotocore", "botocore"} & set(sys.modules)
    """
    subprocess.run([sys.executable, "-c", code], check=True)
