"""A running list: one page after the other, each in runs of items as they arrive."""

import contextlib
from collections.abc import Sequence
from typing import Any, Final, Generic, TypeVar, cast

from itwin_async._aio.loops import LoopBinding
from itwin_async._core.json import NOT_DECODED, why_not_decoded
from itwin_async._core.operation import Request
from itwin_async._http.body import Body, read_whole
from itwin_async._pagination.cursor import Cursor
from itwin_async._pagination.page_types import ListSpec, ODataPage, PageProtocol
from itwin_async._pagination.prefetch import ListContext, Prefetcher
from itwin_async._pagination.streamed_page import StreamedPage
from itwin_async.errors import DecodeError, LinkError, own_copy
from itwin_async.retries import RetryState

T = TypeVar("T")
E = TypeVar("E")

_SMALL: Final = 256 * 1024  # bytes; a page of up to so many is read whole and decoded at once
_EMPTY_IN_A_ROW: Final = 1_000  # empty pages with a next link, after which a list is a loop


class PageReader(Generic[T]):
    """A running list: arrives at one page after the other, and gives each in runs of items."""

    def __init__(
        self, context: ListContext, listing: ListSpec[Any, T], start: Cursor, ahead: int
    ) -> None:
        self._executor = context.executor
        self._listing = listing
        self._digest = start.digest
        self._before = start.count  # entries of the first page that lie before the cursor
        self._upcoming = start.target  # the page to arrive at next
        # Of a page nothing is kept but its next link: its entries live as long as their consumer
        # wants. (200 lists that kept theirs spent a third of their time in the collector.)
        self._complete = False
        self._next: str | LinkError | None = None
        self._pending: Sequence[Any] | None = None  # the page's entries, all at once
        self._large: StreamedPage[Any] | None = None  # or as they arrive
        self._ahead = Prefetcher(context, ahead, listing.request_for) if ahead else None
        self._seen: set[int] = set()
        self._mark: int | None = None  # of the page before, where the links do not decide
        self._empty = 0
        self.target: str | None = None  # the page being given
        self.given: int = 0  # of its entries

    async def arrive(self) -> bool:
        """Go to the next page; False behind the last one."""
        target = self._next_target() if self.target is not None else self._upcoming
        if target is None:
            self.target = self._upcoming = None
            self._before = 0
            return False
        if hash(target) in self._seen:
            raise self._loop("a next link leads to a page that was read before")
        self._seen.add(hash(target))
        if self.target is not None:
            self._empty = 0 if self.given else self._empty + 1
            if self._empty >= _EMPTY_IN_A_ROW:
                raise self._loop(f"{self._empty} empty pages in a row name a next one")
            self._before = 0
        await self._fetch(target)
        self.target, self.given = target, 0
        return True

    async def run(self) -> list[T] | None:
        """The next items of this page, or None when it is all given."""
        while True:
            if self._large is not None:
                entries = await self._large.entries()
                if entries is None:
                    large, self._large = self._large, None
                    self._finish(cast("PageProtocol[Any]", large.page), large.target, large.size)
                    return None
            elif self._pending is not None:
                entries = self._pending
            else:
                return None
            left_out = max(0, self._before - self.given)
            items = self._listing.build(entries[left_out:] if left_out else entries)
            # Counted once they are items: what cannot be made lies behind the cursor.
            self._pending = None
            self.given += len(entries)
            if items:
                return items

    def url(self, target: str | None) -> str | None:
        """The absolute URL of a page."""
        return None if target is None else f"{self._executor.base}{target}"

    @property
    def next_target(self) -> str | None:
        """The page after this one, where that is known; None also at the end."""
        try:
            return self._next_target()
        except LinkError:
            return None

    def place(self, waiting: int) -> str:
        """The cursor behind all items but the last ``waiting`` ones that were given."""
        if self.target is None:
            return str(Cursor(self._digest, self._upcoming, self._before))
        if self._complete and self._pending is None and not waiting:
            with contextlib.suppress(LinkError):  # resumed, the list raises it again
                return str(Cursor(self._digest, self._next_target(), 0))
        return str(Cursor(self._digest, self.target, max(self._before, self.given - waiting)))

    def close(self) -> None:
        """Close what is open and cancel what was asked for ahead, now."""
        if self._large is not None:
            self._large.close()
        if self._ahead is not None:
            self._ahead.cancel()

    @property
    def binding(self) -> LoopBinding:
        """The loop in which this may be closed."""
        return self._executor.lifecycle.binding

    def _next_target(self) -> str | None:
        if isinstance(self._next, LinkError):
            raise own_copy(self._next)
        return self._next

    def _loop(self, why: str) -> LinkError:
        error = LinkError(f"{self._listing.request.operation} runs in a loop: {why}")
        error.operation = str(self._listing.request.operation)
        return error

    async def _fetch(self, target: str) -> None:
        request = self._listing.request_for(target)
        attempts = RetryState(self._executor.retry, request.operation.method)
        self._next = self._pending = None
        self._complete = False

        async def arrived(body: Body) -> tuple[PageProtocol[Any], int] | None:
            return await self._open(body, request, attempts)

        guess = self._ahead.take(target) if self._ahead is not None else None
        if guess is not None:
            with self._executor.lifecycle.scope():
                body = await guess.body()
            if body is not None:
                try:
                    return self._settle(await arrived(body), target)
                except BaseException as error:
                    body.close()
                    # Whatever went wrong with a guess, the page is asked for properly.
                    if not isinstance(error, DecodeError):
                        raise
            cast("Prefetcher", self._ahead).shrink()
        return self._settle(await self._executor.execute(request, arrived, attempts), target)

    def _settle(self, arrived: tuple[PageProtocol[Any], int] | None, target: str) -> None:
        """Take a small page as it is; a large one is still arriving."""
        if arrived is not None:
            page, size = arrived
            mark = page.mark() if isinstance(page, ODataPage) else None
            if mark is not None and mark == self._mark:
                raise self._loop("a page equals the one before it")
            self._mark = mark
            self._pending = page.entries()
            self._finish(page, target, size)
        elif self._ahead is not None:
            self._ahead.prefetch_speculatively(target)

    async def _open(
        self, body: Body, request: Request[Any], attempts: RetryState
    ) -> tuple[PageProtocol[Any], int] | None:
        """Read a small page whole, with its size; leave a large one open, in the middle."""
        streaming, operation = self._listing.streaming, request.operation
        if streaming is None:
            text = await read_whole(body)
            page = operation.decode(text, body)
        else:
            text = b""
            while piece := await body.pull():
                text = text + piece if text else piece
                if len(text) > _SMALL:
                    self._large = StreamedPage(self._executor, streaming, request, attempts)
                    self._large.begin(body, text)
                    return None
            try:
                page = streaming.whole(text)
            except NOT_DECODED as error:
                why, empty = why_not_decoded(error), not text
                del text  # no frame of an error shows it
                kind = body.content_type
            else:
                return page, len(text)
            raise operation.decode_error(why, empty=empty, kind=kind)
        return page, len(text)

    def _finish(self, page: PageProtocol[Any], target: str, size: int) -> None:
        """A page is in: learn what follows, and ask for it if there is read-ahead."""
        self._complete = True
        try:
            self._next = page.following(self._executor.base, target)
        except LinkError as error:  # raised when its turn has come
            error.operation = str(self._listing.request.operation)
            self._next = own_copy(error)  # whose frames lead here
        if self._ahead is not None:
            self._ahead.plan(target, self._next if isinstance(self._next, str) else None, size)
