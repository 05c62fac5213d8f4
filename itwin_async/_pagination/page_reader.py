"""Reads a list page by page, and the items of each page in batches as they arrive."""

import contextlib
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, Final, Generic, TypeVar, cast

from itwin_async._aio.loops import LoopBinding
from itwin_async._core.http_date import parse_http_date
from itwin_async._core.json import NOT_DECODED, why_not_decoded
from itwin_async._core.operation import Request
from itwin_async._core.urls import top_of
from itwin_async._http.body import Body, read_whole
from itwin_async._pagination.cursor import Cursor, fingerprint
from itwin_async._pagination.list_context import ListContext
from itwin_async._pagination.list_spec import ListSpec
from itwin_async._pagination.page_types import ODataPage, PageProtocol
from itwin_async._pagination.prefetch import Prefetcher
from itwin_async._pagination.streamed_page import StreamedPage
from itwin_async.errors import DecodeError, LinkError, own_copy
from itwin_async.retries import RetryState

T = TypeVar("T")

_SMALL: Final = 256 * 1024  # bytes; a page of up to so many is read whole and decoded at once
_MAX_EMPTY_PAGES: Final = 1_000  # empty pages in a row with a next link: the list is a loop


class PageReader(Generic[T]):
    """A running list: `next_page` goes to the next page, `next_batch` gives items of that page.

    After ``limit`` items it ends, if there is one.
    """

    def __init__(
        self,
        context: ListContext,
        spec: ListSpec[Any, T],
        start: Cursor,
        ahead: int,
        limit: int | None = None,
    ) -> None:
        self._executor = context.executor
        self._spec = spec
        self._start = start  # where the list begins; where it ended, once it has
        self._skip = start.count  # entries of the first page that lie before the cursor
        self._search = start.fingerprint  # of the entry before the next one, until it is found
        self._last: tuple[str, int, str] | None = None  # target, count and key of the last entry
        # Only the next link of a page is kept: its entries live as long as their consumer wants.
        # (200 lists that kept theirs spent a third of their time in the collector.)
        self._complete = False  # whether the current page was read to its end
        self._next: str | LinkError | None = None
        self._pending: Sequence[Any] | None = None  # entries of a page that was read whole
        self._streamed: StreamedPage[Any] | None = None  # a page that is still arriving
        self._prefetcher = Prefetcher(context, ahead, spec.request_for) if ahead else None
        self._seen: set[int] = set()  # hashes of the targets that were read
        self._fingerprint: int | None = None  # of the page before, where `$skip` is counted
        self._empty_pages = 0  # in a row
        self._left = limit  # items that are still to be delivered, None for all
        self._withheld = 0  # items of the current page beyond the limit
        self._longest_page = 1  # entries of one, as far as it is known
        self.target: str | None = None  # of the current page
        self.delivered: int = 0  # entries of the current page
        self._date: str | None = None  # a header of the response with the current page

    async def next_page(self) -> bool:
        """Go to the next page; False after the last one, or after the last item of the limit."""
        if self._left == 0:
            return False
        target = self._next_target() if self.target is not None else self._start.target
        if target is None and self._search is not None:
            target = self._restart_by_count()
        if target is None:
            self._start, self.target = self._end_cursor(), None
            return False
        if hash(target) in self._seen:
            raise self._loop_error("a next link leads to a page that was read before")
        self._seen.add(hash(target))
        if self.target is not None:
            self._empty_pages = 0 if self.delivered else self._empty_pages + 1
            if self._empty_pages >= _MAX_EMPTY_PAGES:
                raise self._loop_error(f"{self._empty_pages} empty pages in a row name a next one")
            self._skip = 0
        await self._fetch(target)
        self.target, self.delivered = target, 0
        return True

    async def next_batch(self) -> list[T] | None:
        """The next items of the current page, or None at its end."""
        while self._left != 0:
            if self._streamed is not None:
                entries = await self._streamed.next_batch()
                if entries is None:
                    streamed, self._streamed = self._streamed, None
                    page = cast("PageProtocol[Any]", streamed.page)
                    self._complete_page(page, streamed.target, streamed.size)
                    return None
            elif self._pending is not None:
                entries = self._pending
            else:
                return None
            if self._search is not None:
                self._skip_known(entries, self._search)
            skip = max(0, self._skip - self.delivered)
            items = self._spec.build(entries[skip:] if skip else entries)
            # Counted after they were built: entries that cannot be built lie behind the cursor.
            self._pending = None
            self.delivered += len(entries)
            if entries and self._spec.age_key is not None:
                key = self._spec.age_key(entries[-1])
                self._last = (cast("str", self.target), self.delivered, key)
            if items:
                return items if self._left is None else self._within_limit(items, self._left)
        return None

    def _within_limit(self, items: list[T], left: int) -> list[T]:
        """The items up to the limit; closes what is open when it is reached."""
        self._withheld = max(0, len(items) - left)
        del items[left:]
        self._left = left - len(items)
        if self._left == 0:
            self.close()
        return items

    def url(self, target: str | None) -> str | None:
        """The absolute URL of a page."""
        return None if target is None else f"{self._executor.base}{target}"

    @property
    def date(self) -> datetime | None:
        """When the response with the current page was made, by the platform's clock."""
        return parse_http_date(self._date)  # here, for nearly all lists do without

    @property
    def next_target(self) -> str | None:
        """The target of the next page, where it is known; None also at the end."""
        try:
            return None if self._left == 0 else self._next_target()
        except LinkError:
            return None

    def cursor(self, unread: int) -> str:
        """The cursor behind all delivered items but the last ``unread`` ones."""
        unread += self._withheld
        if self.target is None or self._search is not None:
            return str(self._start)
        digest = self._start.digest
        if self._complete and self._pending is None and not unread:
            with contextlib.suppress(LinkError):  # the resumed list raises it again
                target = self._next_target()
                return str(self._end_cursor() if target is None else Cursor(digest, target, 0))
        return str(Cursor(digest, self.target, max(self._skip, self.delivered - unread)))

    def _end_cursor(self) -> Cursor:
        """The cursor behind the last entry: where the list has ended, at least for now."""
        if self._spec.age_key is None:
            return Cursor(self._start.digest, None, 0)
        if self._last is None:
            return self._start
        target, count, key = self._last
        return Cursor(self._start.digest, target, count, fingerprint(key))

    def _skip_known(self, entries: Sequence[Any], wanted: str) -> None:
        """Skip the entries up to the one that was the last when the cursor was taken."""
        key = cast("Callable[[Any], str]", self._spec.age_key)
        for index in range(len(entries) - 1, -1, -1):
            if fingerprint(key(entries[index])) == wanted:
                self._skip, self._search = self.delivered + index + 1, None
                return
        self._skip = self.delivered + len(entries)

    def _restart_by_count(self) -> str | None:
        """Begin again without the entry that was searched for, which is no longer in the list."""
        self._search, self._skip = None, self._start.count
        self._seen.clear()
        self.target = self._last = None
        return self._start.target

    def close(self) -> None:
        """Close the page that is arriving and cancel read-ahead, now."""
        if self._streamed is not None:
            self._streamed.close()
        if self._prefetcher is not None:
            self._prefetcher.cancel()

    @property
    def binding(self) -> LoopBinding:
        """The event loop in which this must be closed."""
        return self._executor.lifecycle.binding

    def _next_target(self) -> str | None:
        if isinstance(self._next, LinkError):
            raise own_copy(self._next)
        return self._next

    def _loop_error(self, why: str) -> LinkError:
        error = LinkError(f"{self._spec.request.operation} runs in a loop: {why}")
        error.operation = str(self._spec.request.operation)
        return error

    async def _fetch(self, target: str) -> None:
        request = self._spec.request_for(target)
        attempts = RetryState(self._executor.retry, request.operation.method)
        self._next = self._pending = None
        self._complete = False

        async def read(body: Body) -> tuple[PageProtocol[Any], int] | None:
            return await self._read_page(body, request, attempts)

        prefetched = (
            None
            if self._prefetcher is None
            else self._prefetcher.take(target, self._pages_behind_arriving(target))
        )
        if prefetched is not None:
            with self._executor.lifecycle.scope():
                body = await prefetched.body()
            if body is not None:
                try:
                    return self._accept(await read(body), target)
                except BaseException as error:
                    body.close()
                    # A prefetched page that does not decode is requested again in its turn.
                    if not isinstance(error, DecodeError):
                        raise
            prefetched.count_unused()
            cast("Prefetcher", self._prefetcher).shrink()
        return self._accept(await self._executor.execute(request, read, attempts), target)

    def _accept(self, result: tuple[PageProtocol[Any], int] | None, target: str) -> None:
        """Take a page that was read whole; None stands for one that is still arriving."""
        if result is not None:
            page, size = result
            fingerprint = page.fingerprint() if isinstance(page, ODataPage) else None
            if fingerprint is not None and fingerprint == self._fingerprint:
                raise self._loop_error("a page equals the one before it")
            self._fingerprint = fingerprint
            self._pending = page.entries()
            self._complete_page(page, target, size)
        elif self._prefetcher is not None:
            self._prefetcher.prefetch_speculatively(target, self._pages_behind_arriving(target))

    async def _read_page(
        self, body: Body, request: Request[Any], attempts: RetryState
    ) -> tuple[PageProtocol[Any], int] | None:
        """Read a small page whole, with its size; leave a large one open, with None."""
        stream_format, operation = self._spec.stream_format, request.operation
        self._date = body.date
        if stream_format is None:
            data = await read_whole(body)
            return operation.decode(data, body), len(data)
        data = b""
        while chunk := await body.pull():
            data = data + chunk if data else chunk
            if len(data) > _SMALL:
                self._streamed = StreamedPage(self._executor, stream_format, request, attempts)
                self._streamed.begin(body, data)
                return None
        try:
            return stream_format.decode_page(data), len(data)
        except NOT_DECODED as error:
            why, empty = why_not_decoded(error), not data
        del data  # no frame of an error shows it
        raise operation.decode_error(why, empty=empty, kind=body.content_type)

    def _complete_page(self, page: PageProtocol[Any], target: str, size: int) -> None:
        """The page was read to its end: remember its next link, and read ahead from there."""
        self._complete = True
        try:
            self._next = page.next_target(self._executor.base, target)
        except LinkError as error:  # raised when the next page is wanted
            error.operation = str(self._spec.request.operation)
            self._next = own_copy(error)  # without its frames, which lead here
        if self._prefetcher is not None:
            next_target = self._next if isinstance(self._next, str) else None
            entries = 0 if self._pending is None else len(self._pending)
            self._longest_page = max(self._longest_page, entries, self.delivered)
            most = self._pages_behind(max(0, entries - self._skip), target)
            self._prefetcher.prefetch_next(target, next_target, size, most)

    def _pages_behind_arriving(self, target: str) -> int | None:
        """How many pages the limit still needs behind a page of which nothing has arrived."""
        if self._left is None:
            return None
        return self._pages_behind(max(self._longest_page, top_of(target) or 0), target)

    def _pages_behind(self, arriving: int, target: str) -> int | None:
        """How many pages the limit still needs behind the one at ``target``; None without a limit.

        ``arriving`` items of that page are not delivered yet. Counted in pages as long as they can
        be, so that none is requested in vain.
        """
        if self._left is None:
            return None
        length = max(self._longest_page, top_of(target) or 0)
        return max(0, -(-(self._left - arriving) // length))
