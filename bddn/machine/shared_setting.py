"""Settings of the whole process that several threads may need at the same time, such as fits in a pool of threads."""

import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager


class SharedSetting:
    """A setting of the process: the first thread that enters changes it, the last one that leaves restores it.

    If each thread restored what it found, the first to leave would change the setting for the others, and the last
    would leave behind what another had set.

    Parameters
    ----------
    change : callable
        Returns a context manager that changes the setting and restores it.
    """

    def __init__(self, change: Callable[[], AbstractContextManager[object]]) -> None:
        self._change = change
        self._lock = threading.Lock()
        self._n_inside = 0
        self._stack = ExitStack()

    @contextmanager
    def __call__(self) -> Iterator[None]:
        """Keep the setting inside the context, which may be nested."""
        with self._lock:
            if self._n_inside == 0:
                self._stack.enter_context(self._change())
            self._n_inside += 1
        try:
            yield
        finally:
            with self._lock:
                self._n_inside -= 1
                if self._n_inside == 0:
                    self._stack.close()


@contextmanager
def single_threaded_products() -> Iterator[None]:
    """Let numpy, scipy and scikit-learn use one thread, because the last bits of products depend on the number."""
    with _one_thread("openmp"), _single_threaded_blas():  # the number of OpenMP is that of this thread
        yield


def _one_thread(api: str) -> AbstractContextManager[object]:
    from threadpoolctl import ThreadpoolController

    # `threadpool_limits` with an API would restore the numbers of the other APIs too
    return ThreadpoolController().select(user_api=api).limit(limits=1)  # type: ignore[no-any-return]


_single_threaded_blas = SharedSetting(lambda: _one_thread("blas"))
