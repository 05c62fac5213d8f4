"""The part of a job that runs on the workers: their sessions, and the tasks."""

import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final, cast

from distributed import Reschedule, Status, Worker, WorkerPlugin, get_worker

from itwin_async import (
    Event,
    ITwinError,
    ITwinSession,
    Limiter,
    RateLimited,
    TransportError,
    UnauthorizedError,
)
from itwin_async._aio.threads import in_thread
from itwin_async._core.redaction import one_line
from itwin_async._files.atomic import FileDigest
from itwin_async.distributed._destination import Destination
from itwin_async.distributed._importable import import_by_name
from itwin_async.distributed._manifest import NamedFile
from itwin_async.export._arrow import ArrowFile
from itwin_async.limits import rate_limiter_of

_LEAVING: Final = (Status.closing, Status.closing_gracefully, Status.closed)


@dataclass(slots=True)
class RateShare:
    """A share of the rate. ``owner`` is the id of the worker that may use it, at ``address``."""

    number: int
    owner: str
    address: str


@dataclass(frozen=True, slots=True)
class Crawled:
    """The result of a batch. With a ``worker_error``, it may succeed on another worker.

    ``checkpoint`` is how far the iModels were read that did not fail.
    """

    rows: int
    bad: int
    part: FileDigest | None
    bad_part: FileDigest | None
    checkpoint: str
    failures: dict[str, str]
    worker_error: UnauthorizedError | None


@dataclass(frozen=True, slots=True)
class Target:
    """Where a batch is written, and the digest of the type's fields as the client has them."""

    root: str
    run: str
    key: str
    data_type: Any
    fields: str
    look_back: int


class WorkerSessions(WorkerPlugin):
    """A worker's sessions, one for each of its shares. The token provider travels as a name."""

    def __init__(
        self, name: str, provider: str, base_url: str | None, concurrency: int, per_minute: int
    ) -> None:
        self.name = name
        self._provider = provider
        self._base_url = base_url
        self._concurrency = concurrency
        self._per_minute = per_minute

    def setup(self, worker: Worker) -> None:
        self._worker = worker
        self._sessions: dict[int, ITwinSession] = {}
        self._paused_until = 0.0

    async def teardown(self, worker: Worker) -> None:  # noqa: ARG002 - as Dask calls it
        for session in self._sessions.values():
            await session.aclose()

    def session(self, share: int) -> ITwinSession:
        """The session for the share of this number."""
        if share not in self._sessions:
            session = self._sessions[share] = ITwinSession.from_env(
                token_provider=import_by_name(self._provider)(),
                base_url=self._base_url,
                limiter=Limiter(self._concurrency, per_minute=self._per_minute),
                on_event=self._on_event,
            )
            if (left := self._paused_until - time.monotonic()) > 0:
                rate_limiter_of(session.limiter).pause(left)
        return self._sessions[share]

    def _on_event(self, event: Event) -> None:
        if isinstance(event, RateLimited):
            self._worker.log_event(self.name, {"seconds": event.seconds})

    def pause(self, seconds: float) -> None:
        """Pause all sessions, since one was throttled, on this worker or another."""
        self._paused_until = max(self._paused_until, time.monotonic() + seconds)
        for session in self._sessions.values():
            rate_limiter_of(session.limiter).pause(seconds)


async def run_on_share(
    plugin: str, share: RateShare, task: Callable[..., Awaitable[Any]], *arguments: Any
) -> tuple[Any] | None:
    """The result of a task; None if another worker owns the share, and may have spent it."""
    worker = get_worker()
    if worker.id != share.owner:
        return None
    try:
        itwin = cast("WorkerSessions", worker.plugins[plugin]).session(share.number)
        return (await task(itwin, *arguments),)
    except BaseException:
        if worker.status in _LEAVING:
            raise Reschedule from None  # the worker is being closed: this is no failure
        raise


def fields_digest(data_type: Any) -> str:
    """A digest of a type's fields and columns: a type of the same name may have others."""
    return ArrowFile(data_type, parquet=True).schema_digest


def is_worker_fault(error: Exception) -> bool:
    """Whether an error is about the worker it happened on, and not about what was asked for."""
    return not isinstance(error, ITwinError) or isinstance(
        error, UnauthorizedError | TransportError
    )


def error_text(error: BaseException) -> str:
    """An error in one line."""
    return one_line(
        str(error) if isinstance(error, ITwinError) else f"{type(error).__name__}: {error}"
    )


# These run on no share, since they send nothing to the platform


def check_files(root: str, files: list[NamedFile]) -> list[bool]:
    """Whether each file holds what was stored."""
    destination = Destination(root)
    return [destination.holds(file) for file in files]


async def write_probe(root: str, run: str) -> tuple[str | None, str]:
    """The name of a file that this worker wrote, or None and why it could not."""
    try:
        return await in_thread(lambda: Destination(root).write_probe(run)), ""
    except Exception as error:  # noqa: BLE001 - reported by the client, with the worker's name
        return None, error_text(error)


def pause(seconds: float, plugin: str, dask_worker: Worker) -> None:
    """Pause a worker's sessions, since some worker got a 429."""
    sessions = dask_worker.plugins.get(plugin)
    if isinstance(sessions, WorkerSessions):
        sessions.pause(seconds)


def worker_id(dask_worker: Worker) -> str:
    """An id that the next worker at the same address does not have."""
    return dask_worker.id
