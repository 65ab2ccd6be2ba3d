"""Workers of dask, for one slide that is too much for one process: here, or on a cluster.

dask hands out the work and does it again when a worker dies. What travels are paths, places and
small results; pixels are read, and files written, where the work is done.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from importlib import import_module
from typing import Any, TypeVar

from saccade.pipeline.errors import ConfigError, WorkersError
from saccade.tiling.crew import Crew

T = TypeVar("T")
R = TypeVar("R")

_FORMS = (
    "local:4 (processes on this machine), slurm:8 (jobs), or the scheduler's address, tcp://..."
)
_STARTED = re.compile(r"(local|slurm):([1-9]\d*)")
_PATIENCE_S = 30  # for a scheduler to answer

_CALM: Mapping[str, Any] = {
    # Samples the stack a hundred times a second, and nobody looks.
    "distributed.worker.profile.enabled": False,
    # dask has workers give freed memory back at once; what they read into is then mapped anew for
    # each block, which took as long as the work itself.
    "distributed.nanny.pre-spawn-environ.MALLOC_TRIM_THRESHOLD_": 1 << 27,
    "distributed.nanny.pre-spawn-environ.MALLOC_MMAP_THRESHOLD_": 1 << 25,
}


@contextmanager
def dask_crew(where: str | None) -> Iterator[Crew | None]:
    """Workers of dask for the block; None without `where`.

    Args:
        where: `local:4` starts that many processes of a thread each; `slurm:8` submits that many
            jobs, by the settings `jobqueue.slurm` in dask's own files; `tcp://host:8786` takes the
            workers of a scheduler that runs already.

    Raises:
        ConfigError: if `where` has another form, or a package is missing.
        WorkersError: if the scheduler does not answer, or Slurm's settings will not do.
    """
    if where is None:
        yield None
        return
    with ExitStack() as stack:
        yield DaskCrew(_client(where, stack))


class DaskCrew:
    """Spreads work over the workers of a dask client.

    No more than twice as many items as the workers have threads are under way, so that neither the
    scheduler nor this process ever holds many.
    """

    def __init__(self, client: Any) -> None:
        self._client = client

    def __call__(self, work: Callable[[T], R], items: Sequence[T]) -> Iterator[R]:
        """Do work on items; results in whatever order they are done.

        Raises:
            WorkersError: if the same item cost several workers their lives, or the scheduler is
                gone.
        """
        distributed = _package("distributed")
        left, begun = iter(items), distributed.as_completed(loop=self._client.loop)
        gone = distributed.comm.CommClosedError, distributed.client.CancelledError, TimeoutError
        try:
            self._fill(begun, work, left)
            for future in begun:
                yield future.result()
                future.release()
                self._fill(begun, work, left)
        except distributed.KilledWorker as error:
            raise WorkersError(
                f"{error.allowed_failures + 1} workers of dask died one after the other at the "
                "same piece of work. Give them more memory; their logs say more."
            ) from error
        except gone as error:
            raise WorkersError(
                f"the scheduler of dask is gone ({error}). The same command goes on, with workers "
                "that are there."
            ) from error
        finally:
            self._client.cancel(list(begun.futures), reason="the work has ended")

    def _fill(self, begun: Any, work: Callable[[T], R], left: Iterator[T]) -> None:
        room = 2 * max(1, sum(self._client.nthreads().values()))
        while len(begun.futures) < room:
            for item in left:
                begun.add(self._client.submit(work, item, pure=False))
                break
            else:
                return


def _client(where: str, stack: ExitStack) -> Any:
    started = _STARTED.fullmatch(where)
    if not started and "://" not in where:
        raise ConfigError(f"dask: wanted {_FORMS}; got {where!r}.")
    distributed = _package("distributed")
    if not started:
        return stack.enter_context(_answering(distributed.Client, where))
    stack.enter_context(_package("dask").config.set(_CALM))
    make = {"local": _local_cluster, "slurm": _slurm_cluster}[started[1]]
    cluster = stack.enter_context(make(int(started[2])))
    return stack.enter_context(distributed.Client(cluster))


def _answering(client: Any, address: str) -> Any:
    try:
        return client(address, timeout=_PATIENCE_S)
    except (OSError, ValueError) as error:
        raise WorkersError(
            f"{address}: no scheduler of dask answers there ({error}). Start one with `dask "
            "scheduler`, and workers with `dask worker ADDRESS`."
        ) from error


def _local_cluster(count: int) -> Any:
    return _package("distributed").LocalCluster(
        n_workers=count, threads_per_worker=1, dashboard_address=":0", silence_logs=logging.ERROR
    )


def _slurm_cluster(jobs: int) -> Any:
    jobqueue = _package("dask_jobqueue")
    try:
        cluster = jobqueue.SLURMCluster(silence_logs=logging.ERROR)
    except ValueError as error:
        raise WorkersError(
            f"dask: the settings of Slurm jobs will not do ({error}). They are under "
            "jobqueue.slurm in a file of ~/.config/dask: cores, memory, queue, walltime."
        ) from error
    cluster.scale(jobs=jobs)
    return cluster


def _package(name: str) -> Any:
    """A package that only those need who ask for workers; most installs are without it."""
    try:
        return import_module(name)
    except ImportError as error:
        raise ConfigError(
            f"--dask needs the package {name}, which is not installed. Install it: "
            'pip install "saccade[cluster]".'
        ) from error
