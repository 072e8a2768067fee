"""Find the scheduler of a running dask cluster by its address or its file, and check that it answers.

dask's client retries a wrong address for a long time, and forever if something accepts the connection but stays
silent. So this module detects every problem of an address within seconds.
"""

import asyncio
import json
import os
import socket
import ssl
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from distributed.comm.addressing import parse_address, parse_host_port
from distributed.comm.core import CommClosedError
from distributed.comm.registry import backends
from distributed.core import rpc
from distributed.security import Security

from bddn.errors import ClusterError

ANSWER_S = 5.0
FILE_S = 2.0  # a starting scheduler may still be writing its file
OPTION = "--scheduler"
EXAMPLE = "tcp://node1:8786, or the file that 'dask scheduler --scheduler-file FILE' writes"
START_IT = "Give the address that 'dask scheduler' printed when it started, or start it again."


def find_scheduler(given: str) -> str:
    """Return the address of a scheduler, after checking that it answers.

    Parameters
    ----------
    given : str
        An address, 'tcp://HOST:PORT' or 'HOST:PORT', or the path of a scheduler file.

    Raises
    ------
    ClusterError
        If `given` is neither, or no dask scheduler answers there within seconds.
    """
    known: dict[str, Any] = _read_file(Path(given).expanduser()) if _is_path(given) else {"address": given}
    address = str(known["address"])
    scheme, host, port = _parts(address, given)
    if scheme in {"tcp", "tls"}:
        _check_connection(host, port, given)
    with ThreadPoolExecutor(1) as own:  # the main thread of a notebook already runs an event loop
        about = own.submit(asyncio.run, _identity(address, given)).result()
    if about.get("type") != "Scheduler":
        raise _error(given, "the address of a scheduler", f"the address of a dask {str(about.get('type')).lower()}")
    if known.get("id", about.get("id")) != about.get("id"):
        raise _error(given, "the file of a running scheduler", f"an old file: another scheduler answers at {address}")
    return address


def _is_path(given: str) -> bool:
    return "://" not in given and (given.endswith(".json") or os.sep in given or Path(given).is_file())


def _read_file(path: Path) -> dict[str, Any]:
    deadline = time.monotonic() + FILE_S
    while True:
        try:
            text = path.read_text(encoding="utf-8")
            found = json.loads(text)
        except OSError as error:
            raise _error(str(path), "a scheduler file", error.strerror or str(error)) from error
        except ValueError:
            found = None
        if isinstance(found, dict) and isinstance(found.get("address"), str):
            return found
        if time.monotonic() > deadline:
            got = "an empty file" if not text.strip() else "a file without an address in JSON"
            raise _error(str(path), "a file that 'dask scheduler --scheduler-file' wrote", got)
        time.sleep(0.1)


def _parts(address: str, given: str) -> tuple[str, str, int]:
    """Return scheme, host and port; host and port are given for tcp and tls only."""
    try:
        scheme, place = parse_address(address)
        if scheme not in backends:
            raise _error(
                given, f"an address that begins with {' or '.join(f'{s}://' for s in sorted(backends))}", address
            )
        host, port = parse_host_port(place) if scheme in {"tcp", "tls"} else (place, 0)
    except ValueError as error:
        raise _error(given, f"an address with a port, such as {EXAMPLE}", repr(given), "Correct it.") from error
    return scheme, host, port


def _check_connection(host: str, port: int, given: str) -> None:
    try:
        socket.create_connection((host, port), timeout=ANSWER_S).close()
    except socket.gaierror as error:
        raise _error(
            given, "a host that this machine can find", f"'{host}', which it cannot find: {error.strerror}"
        ) from error
    except TimeoutError as error:
        raise _error(
            given, f"an answer from {host}:{port} within {ANSWER_S:.0f} s", "none", f"Check the firewall. {START_IT}"
        ) from error
    except (OSError, OverflowError, UnicodeError) as error:
        words = getattr(error, "strerror", None) or str(error)
        raise _error(given, f"a dask scheduler at {host}:{port}", words[:1].lower() + words[1:]) from error


async def _identity(address: str, given: str) -> dict[str, Any]:
    """Ask the process at an address for its dask identity, and return it."""
    try:
        async with rpc(address, connection_args=Security().get_connection_args("client")) as remote:
            about: dict[str, Any] = await asyncio.wait_for(remote.identity(), ANSWER_S)
    except (TypeError, ssl.SSLError) as error:
        words = "Set dask's distributed.comm.tls, for instance in ~/.config/dask/distributed.yaml."
        raise _error(given, "keys and certificates for tls://", str(error).partition("\n")[0], words) from error
    except (OSError, TimeoutError, CommClosedError, ValueError, AttributeError, MemoryError) as error:
        words = f"Check the port (the dashboard has another one) and whether it needs tls://. {START_IT}"
        raise _error(given, "a dask scheduler", "a process that does not answer like a scheduler", words) from error
    return about


def _error(given: str, expected: str, got: str, fix: str = START_IT) -> ClusterError:
    return ClusterError(f"{OPTION} {given}", expected=expected, got=got, fix=fix)
