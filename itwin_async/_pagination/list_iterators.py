"""Running lists: iterators over the items or the pages of a list, and the page itself.

Between two items an iterator holds only its place: no slot, lock, scope or task group. When it is
closed or collected, it closes its connection at once and synchronously.
"""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Generic, NoReturn, Self, TypeVar

from itwin_async._aio.timeouts import InterruptScope
from itwin_async._core.html import rows_table
from itwin_async._core.misuse import explain_misuse
from itwin_async._pagination.page_reader import PageReader
from itwin_async.errors import ended_with, own_copy

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """One page of a list: its items, its URL, and the URL of the next page.

    ``next_url`` is None at the end, and where the next link is refused; ``cursor`` resumes the list
    behind this page. ``date`` is when the platform answered, by its own clock.
    """

    items: list[T]
    url: str | None
    next_url: str | None
    cursor: str
    date: datetime | None = None

    def __len__(self) -> int:
        return len(self.items)

    def __iter__(self) -> Iterator[T]:
        return iter(self.items)

    def __repr__(self) -> str:
        return f"Page({len(self.items)} items, {(self.url or '').partition('?')[0]})"

    def _repr_html_(self) -> str:
        return rows_table(repr(self), self.items)


class _ListIterator(Generic[T]):
    """The common part of `ItemIterator` and `PageIterator`: one task at a time, and errors stay."""

    def __init__(self, reader: PageReader[T]) -> None:
        self._reader = reader
        self._wait: InterruptScope | None = None  # while a task waits for an item
        self._end: Exception | None = None  # each further call raises a copy of it

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            "a running list does not pickle: store iterator.cursor, and go on with "
            "pager.resume(cursor)"
        )

    def __aiter__(self) -> Self:
        return self

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the list: its connection and its requests end now.

        From another thread than that of its event loop, they end there soon.
        """
        self._reader.binding.call(self._close)

    def _close(self) -> None:
        if self._end is None:
            self._end = StopAsyncIteration()
            if self._wait is not None:
                self._end = RuntimeError("this list was closed while it was waited for")
                if not self._reader.binding.lost:
                    self._wait.interrupt(own_copy(self._end))
        self._reader.close()

    def __del__(self) -> None:
        with contextlib.suppress(AttributeError):  # its constructor failed
            self._reader.binding.call(self._reader.close)

    def _begin(self) -> InterruptScope:
        if self._end is not None:
            raise own_copy(self._end)
        if self._wait is not None:
            raise RuntimeError("two tasks iterate over one list: give each its own aiter(pager)")
        self._wait = InterruptScope()
        return self._wait

    def _fail(self, error: BaseException) -> None:
        """Remember the error, so that further calls raise it again."""
        if not isinstance(error, Exception):
            error = RuntimeError(
                "this list was cancelled while it was waited for: go on with pager.resume(cursor)"
            )
        if self._end is None:
            self._end = ended_with(error, "this list", "go on with pager.resume(cursor)")
        self._reader.close()


class ItemIterator(_ListIterator[T]):
    """A running list, item by item."""

    def __init__(self, reader: PageReader[T]) -> None:
        super().__init__(reader)
        self._items: list[T] = []  # in reverse: each is dropped as it is delivered
        self._unread = 0  # items that closing has thrown away

    async def __anext__(self) -> T:
        if self._items:
            return self._items.pop()
        return await self._refill()

    async def _refill(self) -> T:
        wait = self._begin()
        try:
            with wait:
                while True:
                    batch = await self._reader.next_batch()
                    if batch:
                        batch.reverse()
                        self._items = batch
                        return batch.pop()
                    if batch is None and not await self._reader.next_page():
                        raise StopAsyncIteration  # noqa: TRY301 - `_fail` remembers it
        except BaseException as error:
            self._fail(error)
            raise
        finally:
            self._wait = None

    @property
    def cursor(self) -> str:
        """The place of this list: every delivered item lies before it, and no other."""
        return self._reader.cursor(len(self._items) + self._unread)

    def _close(self) -> None:
        self._unread += len(self._items)
        self._items = []
        super()._close()


class PageIterator(_ListIterator[T]):
    """A running list, page by page."""

    def __init__(self, reader: PageReader[T]) -> None:
        super().__init__(reader)
        self._cursor = reader.cursor(0)

    async def __anext__(self) -> Page[T]:
        wait, reader = self._begin(), self._reader
        try:
            with wait:
                items: list[T] = []
                url: str | None = None
                # A page whose entries lie before the cursor is none of this list's.
                while not items and (url is None or reader.delivered):
                    if not await reader.next_page():
                        raise StopAsyncIteration  # noqa: TRY301 - `_fail` remembers it
                    url = reader.url(reader.target)
                    while (batch := await reader.next_batch()) is not None:
                        items += batch
        except BaseException as error:
            self._fail(error)
            raise
        finally:
            self._wait = None
        self._cursor = reader.cursor(0)
        return Page(items, url, reader.url(reader.next_target), self._cursor, reader.date)

    @property
    def cursor(self) -> str:
        """The place of this list: every delivered page lies before it, and no other."""
        return self._cursor


explain_misuse(
    _ListIterator,
    {"__iter__": "a list of the platform is iterated with `async for`, not with `for`"},
)
