"""Lazy lists: values that are iterated page by page, where the platform's links decide.

An iterator holds nothing between two items but its place: no slot, lock, scope or task group. What
it has open it closes at once, synchronously, when it is closed or dropped.
"""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Generic, NoReturn, Self, TypeVar

from itwin_async._aio.timeouts import InterruptScope
from itwin_async._core.html import hint, rows_table
from itwin_async._core.validation import check_count
from itwin_async._pagination.cursor import Cursor
from itwin_async._pagination.page_reader import PageReader
from itwin_async._pagination.page_types import ListSpec
from itwin_async._pagination.prefetch import ListContext
from itwin_async.errors import ended_with, own_copy

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """One page of a list: its items, where it came from, where the next one is.

    ``next_url`` is None at the end, and where the next link is refused; ``cursor`` resumes the list
    behind this page.
    """

    items: list[T]
    url: str | None
    next_url: str | None
    cursor: str

    def __len__(self) -> int:
        return len(self.items)

    def __iter__(self) -> Iterator[T]:
        return iter(self.items)

    def __repr__(self) -> str:
        return f"Page({len(self.items)} items, {(self.url or '').partition('?')[0]})"

    def _repr_html_(self) -> str:
        return rows_table(repr(self), self.items)


class Pager(Generic[T]):
    """A list of the platform: a value, from which nothing is requested before it is iterated.

    ``async for item in pager`` starts from the beginning each time. A page is requested when its
    first item is wanted, unless `ahead` allows more. Iterating raises the library's errors; none of
    the items before an error is lost.
    """

    __slots__ = ("_ahead", "_context", "_listing", "_start")

    def __init__(
        self,
        context: ListContext,
        listing: ListSpec[Any, T],
        *,
        ahead: int = 0,
        start: "Cursor | None" = None,
    ) -> None:
        self._context = context
        self._listing = listing
        self._ahead = ahead
        self._start = start

    def __repr__(self) -> str:
        request = self._listing.request
        return f"Pager({request.operation.method} {request.target.partition('?')[0]})"

    def _repr_html_(self) -> str:
        return hint(repr(self), "[item async for item in pager]", "await anext(pager.pages())")

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            "a Pager does not pickle: send what it is made of, and make it in each process from a "
            "session of its own"
        )

    def __aiter__(self) -> "ItemIterator[T]":
        return ItemIterator(self._feed())

    def pages(self) -> "PageIterator[T]":
        """The same list as whole pages; as much memory as a page takes."""
        return PageIterator(self._feed())

    def ahead(self, pages: int) -> "Pager[T]":
        """The same list with up to so many pages asked for ahead of the one being read; 0 is none.

        The window grows 1, 2, 4 … ``pages``. Later pages are predicted from the links seen so far
        and used only when the page before names exactly that link, so order and content are as
        without. Only idle slots of the limiter are used. Past the end of a list up to ``pages``
        requests may be sent in vain; they count against the rate limit.
        """
        check_count("pages", pages, least=0)
        return Pager(self._context, self._listing, ahead=pages, start=self._start)

    def resume(self, cursor: str) -> "Pager[T]":
        """The rest of the list behind a cursor that an iterator or a page gave, in any process.

        Raises `ValueError` for what is no cursor of this list.
        """
        return Pager(
            self._context,
            self._listing,
            ahead=self._ahead,
            start=Cursor.parse(cursor, self._listing.digest),
        )

    def _feed(self) -> "PageReader[T]":
        listing = self._listing
        start = self._start or Cursor(listing.digest, listing.request.target, 0)
        return PageReader(self._context, listing, start, self._ahead)


class _ListIterator(Generic[T]):
    """What iterating by items and by pages share: one user at a time, and no quiet end."""

    def __init__(self, feed: PageReader[T]) -> None:
        self._feed = feed
        self._wait: InterruptScope | None = None  # while a task waits for an item
        self._end: Exception | None = None  # of which each further call raises a copy

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
        """Close the list: what is open or under way for it ends now.

        From another thread than that of its event loop, it ends there soon.
        """
        self._feed.binding.call(self._close)

    def _close(self) -> None:
        if self._end is None:
            self._end = StopAsyncIteration()
            if self._wait is not None:
                self._end = RuntimeError("this list was closed while it was waited for")
                if not self._feed.binding.lost:
                    self._wait.interrupt(own_copy(self._end))
        self._feed.close()

    def __del__(self) -> None:
        with contextlib.suppress(AttributeError):  # it was never made
            self._feed.binding.call(self._feed.close)

    def _begin(self) -> InterruptScope:
        if self._end is not None:
            raise own_copy(self._end)
        if self._wait is not None:
            raise RuntimeError("two tasks iterate over one list: give each its own aiter(pager)")
        self._wait = InterruptScope()
        return self._wait

    def _fail(self, error: BaseException) -> None:
        """Remember how it ended, so that it ends the same way when asked again."""
        if not isinstance(error, Exception):
            error = RuntimeError(
                "this list was cancelled while it was waited for: go on with pager.resume(cursor)"
            )
        if self._end is None:
            self._end = ended_with(error, "this list", "go on with pager.resume(cursor)")
        self._feed.close()


class ItemIterator(_ListIterator[T]):
    """A running list, item by item."""

    def __init__(self, feed: PageReader[T]) -> None:
        super().__init__(feed)
        self._items: list[T] = []  # the next one last: each is let go as it is handed over
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
                    run = await self._feed.run()
                    if run:
                        run.reverse()
                        self._items = run
                        return run.pop()
                    if run is None and not await self._feed.arrive():
                        raise StopAsyncIteration  # noqa: TRY301 - what `_fail` remembers
        except BaseException as error:
            self._fail(error)
            raise
        finally:
            self._wait = None

    @property
    def cursor(self) -> str:
        """Where this list is: every item that was handed over lies before it, and none after."""
        return self._feed.place(len(self._items) + self._unread)

    def _close(self) -> None:
        self._unread += len(self._items)
        self._items = []
        super()._close()


class PageIterator(_ListIterator[T]):
    """A running list, page by page."""

    def __init__(self, feed: PageReader[T]) -> None:
        super().__init__(feed)
        self._cursor = feed.place(0)

    async def __anext__(self) -> Page[T]:
        wait, feed = self._begin(), self._feed
        try:
            with wait:
                if not await feed.arrive():
                    raise StopAsyncIteration  # noqa: TRY301 - what `_fail` remembers
                url = feed.url(feed.target)
                items: list[T] = []
                while (run := await feed.run()) is not None:
                    items += run
        except BaseException as error:
            self._fail(error)
            raise
        finally:
            self._wait = None
        self._cursor = feed.place(0)
        return Page(items, url, feed.url(feed.next_target), self._cursor)

    @property
    def cursor(self) -> str:
        """Where this list is: every page that was handed over lies before it, and none after."""
        return self._cursor
