"""Many lists as one bounded stream: a few workers, one buffer, no task after its block."""

import asyncio
from collections import deque
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Iterator
from types import TracebackType
from typing import Any, Final, Generic, NoReturn, Self, TypeVar

import anyio

from itwin_async._aio.loops import background
from itwin_async._core.validation import check_callback, check_count
from itwin_async._pagination.pager import Pager
from itwin_async.errors import ended_with, own_copy

T = TypeVar("T")
OnError = Callable[[Any, Exception], object]
# Seconds that lists of the caller's have to close undisturbed in a cancelled scope of anyio.
_SHIELDED: Final = 10.0


class Merged(Generic[T]):
    """The items of many lists in the order of their arrival, inside ``async with``.

    Made by `merged`. The workers are tasks of this block: at its end they are cancelled and gone.
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
        self._room = asyncio.Event()
        self._arrived = asyncio.Event()
        self._drawing = asyncio.Lock()
        self._source: Iterator[AsyncIterable[T]] | AsyncIterator[AsyncIterable[T]] | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._drawn = False  # whether the source is over
        self._failure: Exception | None = None
        self._raised: Exception | None = None  # the failure, once it was raised
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
            task.add_done_callback(self._done)  # also of one that was cancelled before it began
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        self._state = "closed"
        self._items.clear()
        if asyncio._get_running_loop() is None:  # noqa: SLF001 - documented
            return  # dropped with a loop that is closed, and the workers with it
        self._arrived.set()
        # Our own lists end in a turn or two of the loop. Those of the caller's may take longer, and
        # a scope of anyio would cancel them at each turn.
        with anyio.CancelScope(shield=True) as scope:
            patience = asyncio.get_running_loop().call_later(_SHIELDED, _unshield, scope)
            try:
                await self._end()
            finally:
                patience.cancel()

    async def _end(self) -> None:
        """Cancel the workers, once for each time that this is cancelled; then close the source."""
        cancelled: asyncio.CancelledError | None = None
        for task in self._tasks:
            if not task.cancelling():
                task.cancel()
        while pending := [task for task in self._tasks if not task.done()]:
            try:
                await asyncio.wait(pending)
            except asyncio.CancelledError as again:
                cancelled = again
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
            self._arrived.clear()
            await self._arrived.wait()
        item = self._items.popleft()
        self._room.set()
        return item

    async def _work(self) -> None:
        try:
            while (pager := await self._draw()) is not None:
                await self._read(pager)
        except Exception as error:  # noqa: BLE001 - raised to the consumer
            if self._failure is None:
                self._fail(error)

    def _done(self, task: asyncio.Task[None]) -> None:
        if task.cancelled() and self._state == "open" and self._failure is None:
            self._fail(RuntimeError("a worker of this merged stream was cancelled"))
        self._running -= 1
        self._arrived.set()

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
                        self._room.clear()
                        await self._room.wait()
                    self._items.append(item)
                    self._arrived.set()
            finally:
                await _close(items)
        except Exception as error:
            if self._on_error is None:
                raise
            self._on_error(pager, error)

    async def _draw(self) -> AsyncIterable[T] | None:
        async with self._drawing:
            source = self._source
            if self._drawn or source is None or self._failure is not None:
                return None
            try:
                pager = await anext(source) if isinstance(source, AsyncIterator) else next(source)
            except (StopIteration, StopAsyncIteration):
                self._drawn = True
                return None
            given: object = pager
            if not isinstance(given, AsyncIterable):
                raise TypeError(f"merged() takes lists, not {type(given).__name__}")
            return pager


def _unshield(scope: anyio.CancelScope) -> None:
    scope.shield = False


async def _close(iterator: object) -> None:
    """Close an iterator that can be closed, so that what it has open ends with the block."""
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

    ``async with merged(pagers) as items: async for item in items: ...``. A list is a `Pager`, or
    its ``pages()``, whose pages carry the cursors to resume from. ``pagers`` are drawn as workers
    get to them, so there may be any number; ``workers`` of them run at once, and at most ``buffer``
    items wait for the consumer: a slow one slows the requests. A list that fails ends the stream
    with its own error, after the items that had arrived; with ``on_error(pager, error)`` it is left
    out instead. The iterator over ``pagers`` is closed at the end of the block.
    """
    check_count("workers", workers)
    check_count("buffer", buffer)
    given: object = pagers
    if not isinstance(given, Iterable | AsyncIterable) or isinstance(given, Pager | str):
        raise TypeError("pagers must be an iterable or async iterable of lists")
    check_callback("on_error", on_error)
    return Merged(pagers, workers, buffer, on_error)
