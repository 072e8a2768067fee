"""dask workers that start quickly, and for whom a machine is lost after seconds instead of a minute."""

import multiprocessing
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import dask
import distributed.utils
from distributed import WorkerPlugin

from bddn.store import lease

PRELOADED = ["distributed", "bddn.extraction.on_worker", "bddn.backbones.vit", "quick_workers"]
PRELOADED += ["transformers.models.clip.modeling_clip"]  # the network of the planted brain
PRELOADED += ["bddn.cli.process", "bddn.api", "bddn.extraction", "bddn.run", "scipy.stats"]  # for quick_commands.py
BEAT_S, STALE_S = 0.5, 3.0


@contextmanager
def quick_workers() -> Iterator[None]:
    """Workers that are started in this context are forked from a process that has imported what they need."""
    multiprocessing.get_context("forkserver").set_forkserver_preload(PRELOADED)
    distributed.utils._forkserver_preload_set = True
    with dask.config.set({"distributed.worker.multiprocessing-method": "forkserver"}):
        yield


class QuickLeases(WorkerPlugin):
    """Leases of other machines grow stale quickly, on all workers, also on those that join later."""

    def setup(self, worker: Any) -> None:
        lease.HEARTBEAT_S, lease.STALE_S = BEAT_S, STALE_S
