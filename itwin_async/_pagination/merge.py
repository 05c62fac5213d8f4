"""Many lists as one bounded stream: a few workers, one buffer, and no task after the block."""

import asyncio
from collections import deque
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Iterator
from types import TracebackType
from typing import Any, Final, Generic, NoReturn, Self, TypeVar

import anyio

from itwin_async._aio.loops import background
from itwin_async._aio.wait_queue import WaitQueue
from itwin_async._core.misuse import explain_misuse
from itwin_async._core.validation import check_callback, check_count
from itwin_async._pagination.pager import Pager
from itwin_async.errors import ended_with, own_copy

T = TypeVar("T")
OnError = Callable[[Any, Exception], object]
# Seconds that the caller's own iterators have to close before a cancelled anyio scope ends them.
_CLOSE_TIMEOUT: Final = 10.0


class Merged(Generic[T]):
    """The items of many lists in the order of their arrival, inside ``async with``.

    `merged` makes it. The workers are tasks of this block, which cancels them at its end.
    """

    def __init__(
        self,
        pagers: Iterable[AsyncIterable[T]] | AsyncIterable[AsyncIterable[T]],
        workers: int,
        buffer: int,
        on_error: OnError | None,
    ) -> None:
        self._pagers = pagers
        self._workers: Final = workers
        self._size: Final = buffer
        self._on_error = on_error
        self._items: deque[T] = deque()
        self._not_full = WaitQueue()  # of workers
        self._not_empty = WaitQueue()  # of the consumer
        self._source_lock = asyncio.Lock()
        self._source: Iterator[AsyncIterable[T]] | AsyncIterator[AsyncIterable[T]] | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._exhausted = False  # whether the source has ended
        self._failure: Exception | None = None
        self._raised: Exception | None = None  # the failure, after it was raised
        self._running = 0
        self._state = "new"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a merged stream does not pickle: call merged() in each process")

    async def __aenter__(self) -> Self:
        if self._state != "new":
            raise RuntimeError("a merged stream is used once: call merged() again")
        pagers = self._pagers
        self._source = aiter(pagers) if isinstance(pagers, AsyncIterable) else iter(pagers)
        self._state = "open"
        self._running = self._workers
        self._tasks = [background(self._work(), "merged") for _ in range(self._workers)]
        for task in self._tasks:
            task.add_done_callback(self._worker_done)  # also where it is cancelled before it starts
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        self._state = "closed"
        self._items.clear()
        if asyncio._get_running_loop() is None:  # noqa: SLF001 - documented
            return  # collected with a closed loop, and the workers with it
        self._not_empty.notify_all()
        # The library's lists close within a turn or two of the loop. The caller's own iterators may
        # take longer, and a cancelled anyio scope would cancel them again at each turn.
        with anyio.CancelScope(shield=True) as scope:
            timer = asyncio.get_running_loop().call_later(_CLOSE_TIMEOUT, _unshield, scope)
            try:
                await self._stop()
            finally:
                timer.cancel()

    async def _stop(self) -> None:
        """Cancel the workers, again whenever this is cancelled itself; then close the source."""
        cancelled: asyncio.CancelledError | None = None
        for task in self._tasks:
            if not task.cancelling():
                task.cancel()
        while pending := [task for task in self._tasks if not task.done()]:
            try:
                await asyncio.wait(pending)
            except asyncio.CancelledError as error:
                cancelled = error
                for task in pending:
                    task.cancel()
        self._tasks.clear()
        source, self._source, self._pagers = self._source, None, ()
        await _close(source)
        if cancelled is not None:
            raise cancelled

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> T:
        while not self._items:
            if self._state != "open":
                raise RuntimeError("a merged stream is read inside its 'async with' block")
            if self._raised is not None:
                raise own_copy(self._raised)
            if self._failure is not None:
                failure = self._failure
                self._failure = self._raised = ended_with(
                    failure, "this stream", "call merged() again"
                )
                raise failure
            if not self._running:
                raise StopAsyncIteration
            await self._not_empty.wait()
        item = self._items.popleft()
        self._not_full.notify()
        return item

    async def _work(self) -> None:
        try:
            while (pager := await self._next_source()) is not None:
                await self._read(pager)
        except Exception as error:  # noqa: BLE001 - raised to the consumer
            if self._failure is None:
                self._fail(error)

    def _worker_done(self, task: asyncio.Task[None]) -> None:
        if task.cancelled() and self._state == "open" and self._failure is None:
            self._fail(RuntimeError("a worker of this merged stream was cancelled"))
        self._running -= 1
        if not self._running or self._failure is not None:
            self._not_empty.notify_all()

    def _fail(self, error: Exception) -> None:
        self._failure = error
        for task in self._tasks:
            if task is not asyncio.current_task():
                task.cancel()

    async def _read(self, pager: AsyncIterable[T]) -> None:
        try:
            items = aiter(pager)
            try:
                async for item in items:
                    while len(self._items) >= self._size:
                        await self._not_full.wait()
                    self._items.append(item)
                    self._not_empty.notify()
            finally:
                await _close(items)
        except Exception as error:
            if self._on_error is None:
                raise
            self._on_error(pager, error)

    async def _next_source(self) -> AsyncIterable[T] | None:
        async with self._source_lock:
            source = self._source
            if self._exhausted or source is None or self._failure is not None:
                return None
            try:
                pager = await anext(source) if isinstance(source, AsyncIterator) else next(source)
            except (StopIteration, StopAsyncIteration):
                self._exhausted = True
                return None
            value: object = pager
            if not isinstance(value, AsyncIterable):
                raise TypeError(f"merged() takes lists, not {type(value).__name__}")
            return pager


def _unshield(scope: anyio.CancelScope) -> None:
    scope.shield = False


async def _close(iterator: object) -> None:
    """Close an iterator that can be closed, so that its connections end with the block."""
    aclose = getattr(iterator, "aclose", None)
    close = getattr(iterator, "close", None)
    if aclose is not None:
        await aclose()
    elif close is not None:
        close()


def merged(
    pagers: Iterable[AsyncIterable[T]] | AsyncIterable[AsyncIterable[T]],
    *,
    workers: int = 8,
    buffer: int = 32,
    on_error: OnError | None = None,
) -> Merged[T]:
    """The items of many lists as one stream, in the order of their arrival.

    A list is a `Pager`, or its ``pages()``, whose pages carry the cursors to resume from. Lists are
    taken from ``pagers`` as workers become free, so there may be any number of them. ``workers`` of
    them run at once, and at most ``buffer`` items wait for the consumer: a slow consumer slows the
    requests. A list that fails ends the stream with its own error, after the items that arrived
    before it; with ``on_error(pager, error)`` it is left out instead. The iterator over ``pagers``
    is closed at the end of the block.

    Example::

        imodels = [imodel async for imodel in itwin.imodels.list_imodels(itwin_id)]
        lists = (itwin.imodels.list_changesets(imodel.id) for imodel in imodels)
        async with merged(lists, workers=8) as changesets:
            async for changeset in changesets:
                print(changeset.index, changeset.file_size)
    """
    check_count("workers", workers)
    check_count("buffer", buffer)
    value: object = pagers
    if not isinstance(value, Iterable | AsyncIterable) or isinstance(value, Pager | str):
        raise TypeError("pagers must be an iterable or async iterable of lists")
    check_callback("on_error", on_error)
    return Merged(pagers, workers, buffer, on_error)


_MERGED: Final = "a merged stream is iterated in its block: `async with merged(pagers) as items:`, "
explain_misuse(
    Merged,
    dict.fromkeys(("__iter__", "__await__"), f"{_MERGED}then `async for item in items:`"),
)
