"""Lazy lists: values that are iterated page by page, where the platform's links decide.

An iterator holds nothing between two items but its place: no slot, lock, scope or task group. What
it has open it closes at once, synchronously, when it is closed or dropped.
"""

import base64
import contextlib
import hashlib
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Generic, NoReturn, Protocol, Self, TypeVar, cast

import msgspec

from itwin_async._ahead import Ahead
from itwin_async._exchange import Body, Exchange
from itwin_async._links import Origin, follow, next_href
from itwin_async._operation import NOT_DECODED, Request, check_count, check_text, why_not_decoded
from itwin_async._splitting import Splitter
from itwin_async.errors import DecodeError, LinkError, TransportError
from itwin_async.retries import Attempts

T = TypeVar("T")
E = TypeVar("E")
T_co = TypeVar("T_co", covariant=True)

_SMALL: Final = 256 * 1024  # bytes; a page of up to so many is read whole and decoded at once
_EMPTY_IN_A_ROW: Final = 1_000  # empty pages with a next link, after which a list is a loop


class PageStyle(Protocol[T_co]):
    """What a page struct knows: its entries, and what comes after it."""

    def entries(self) -> Sequence[T_co]:
        """The page's entries as they were decoded."""
        ...

    def following(self, base: Origin, target: str) -> str | None:
        """Path and query of the page after the one at ``target``, or None; `LinkError` if bad."""
        ...


class LinkedPage(msgspec.Struct, Generic[T], kw_only=True):
    """A page that names the next one in ``_links``."""

    links: Any = msgspec.field(name="_links", default=None)

    def following(self, base: Origin, target: str) -> str | None:
        """Where ``_links.next`` leads, byte for byte."""
        href = next_href(self.links)
        return None if href is None else follow(base, target, href)


class SinglePage(msgspec.Struct, Generic[T]):
    """A whole list in one answer."""

    def following(self, base: Origin, target: str) -> str | None:  # noqa: ARG002 - a page's style
        """Nothing follows."""
        return None


@dataclass(frozen=True, slots=True)
class Streaming(Generic[E]):
    """How a page is taken apart while it arrives.

    ``opening`` finds its list; ``whole`` and ``run`` decode a page and a list of entries and raise
    msgspec's errors; ``key`` is what tells an entry from another when a page is read again.
    """

    opening: "re.Pattern[bytes]"
    whole: Callable[[bytes | bytearray], PageStyle[E]]
    run: Callable[[memoryview], list[E]]
    key: Callable[[E], object]


@dataclass(frozen=True, slots=True)
class Listing(Generic[E, T]):
    """A list as its operation declares it: the first request, and how entries become items."""

    request: Request[PageStyle[E]]
    build: Callable[[Sequence[E]], list[T]]
    streaming: Streaming[E] | None = None

    @property
    def digest(self) -> str:
        """What tells this list's cursors from another's: path and filters, not the page size."""
        path, _, query = self.request.target.partition("?")
        filters = sorted(pair for pair in query.split("&") if pair and not pair.startswith("$top="))
        text = "\0".join([path.rstrip("/").lower(), *filters])
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    def at(self, target: str) -> Request[PageStyle[E]]:
        """The request for another page of the list, with the same headers."""
        return replace(self.request, target=target)


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """One page of a list: its items, where it came from, where the next one is.

    ``next_url`` is None at the end; ``cursor`` resumes the list behind this page.
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


class Pager(Generic[T]):
    """A list of the platform: a value, from which nothing is requested before it is iterated.

    ``async for item in pager`` starts from the beginning each time. A page is requested when its
    first item is wanted, unless `ahead` allows more. Iterating raises the library's errors; none of
    the items before an error is lost.
    """

    __slots__ = ("_ahead", "_exchange", "_listing", "_start")

    def __init__(
        self,
        exchange: Exchange,
        listing: Listing[Any, T],
        *,
        ahead: int = 0,
        start: "_Place | None" = None,
    ) -> None:
        self._exchange = exchange
        self._listing = listing
        self._ahead = ahead
        self._start = start

    def __repr__(self) -> str:
        return f"Pager({self._listing.request.operation})"

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
        return Pager(self._exchange, self._listing, ahead=pages, start=self._start)

    def resume(self, cursor: str) -> "Pager[T]":
        """The rest of the list behind a cursor that an iterator or a page gave, in any process.

        Raises `ValueError` for what is no cursor of this list.
        """
        return Pager(
            self._exchange,
            self._listing,
            ahead=self._ahead,
            start=_Place.parse(cursor, self._listing.digest),
        )

    def _feed(self) -> "_Feed[T]":
        listing = self._listing
        start = self._start or _Place(listing.digest, listing.request.target, 0)
        return _Feed(self._exchange, listing, start, self._ahead)


@dataclass(frozen=True, slots=True)
class _Place:
    """A place in a list: a page (none behind the end) and how many of its entries lie before."""

    digest: str
    target: str | None
    count: int

    def __str__(self) -> str:
        text = msgspec.json.encode([1, self.digest, self.target, self.count])
        return base64.urlsafe_b64encode(text).decode().rstrip("=")

    @classmethod
    def parse(cls, cursor: str, digest: str) -> Self:
        """A cursor's place, if it is one of this list's."""
        check_text("cursor", cursor)
        try:
            text = base64.b64decode(
                cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True
            )
            version, of, target, count = msgspec.json.decode(
                text, type=tuple[int, str, str | None, int]
            )
        except (ValueError, TypeError, *NOT_DECODED):
            raise ValueError("cursor must be a cursor that this library gave") from None
        if version != 1 or count < 0 or not (target is None or target.startswith("/")):
            raise ValueError("cursor must be a cursor that this library gave")
        if of != digest:
            raise ValueError("cursor belongs to another list: resume the list that gave it")
        if target is not None:
            follow(_NOWHERE, "/", target)
        return cls(of, target, count)


_NOWHERE: Final = Origin("https", "cursor", 443)


class _LargePage(Generic[E]):
    """A page whose entries are handed over while it arrives."""

    def __init__(
        self,
        exchange: Exchange,
        listing: Listing[E, Any],
        request: Request[Any],
        attempts: Attempts,
    ) -> None:
        self._exchange = exchange
        self._streaming = cast("Streaming[E]", listing.streaming)
        self._request = request
        self._attempts = attempts
        self._keys: list[object] = []  # of the entries handed over
        self._again = 0  # how many of them the present copy of the page has shown
        self._hurry = False
        self._failure: TransportError | DecodeError | None = None
        self.page: PageStyle[E] | None = None
        self.size = 0

    def begin(self, body: Body, head: bytes) -> None:
        """Go on with a body of which ``head`` was read."""
        streaming = self._streaming
        self._body = body
        self._head = head
        self._again = self.size = 0
        self._splitter: Splitter[PageStyle[E], E] = Splitter(
            streaming.opening, streaming.whole, streaming.run
        )

    async def entries(self) -> Sequence[E] | None:
        """The next run of entries, or None at the page's end.

        A page cut short is asked for again; what was handed over of it is compared and left out.
        """
        while self.page is None:
            try:
                run = await (self._rest() if self._hurry else self._run())
            except (TransportError, DecodeError) as error:
                self.close()
                error.operation = str(self._request.operation)
                error.request_id = self._body.request_id
                with self._exchange.running():
                    await self._exchange.again(self._attempts, error)
                self.begin(await self._exchange.run(self._request, _as_it_is, self._attempts), b"")
                # A server may have lost patience with a slow consumer: take the copy in one go.
                self._hurry = True
                continue
            fresh = self._unseen(run)
            if fresh:
                self._attempts.progressed()
                return fresh
        return None

    async def _run(self) -> Sequence[E]:
        """The entries of the next piece; at the end of the body, of the rest."""
        if self._failure is not None:
            failure, self._failure = self._failure, None
            raise failure
        piece, self._head = self._head or await self._body.pull(), b""
        self.size += len(piece)
        try:
            if piece:
                return self._splitter.feed(piece)
            self.page = self._splitter.finish()
            return self.page.entries()
        except NOT_DECODED as error:
            raise self._request.operation.undecodable(why_not_decoded(error)) from None

    async def _rest(self) -> Sequence[E]:
        """All entries that can be had of this copy; a failure is kept for the next call."""
        collected: list[E] = []
        try:
            while self.page is None:
                collected += await self._run()
        except (TransportError, DecodeError) as error:
            if not collected:
                raise
            self._failure = error
        return collected

    def _unseen(self, run: Sequence[E]) -> Sequence[E]:
        """What of a run was not handed over before; `DecodeError` if the page has changed."""
        key = self._streaming.key
        keys = [key(entry) for entry in run]
        known = self._keys[self._again : self._again + len(run)]
        if known != keys[: len(known)]:
            self.close()
            raise self._request.operation.undecodable("the page changed between two copies of it")
        self._again += len(run)
        self._keys += keys[len(known) :]
        if self.page is not None and self._again < len(self._keys):
            self.close()
            raise self._request.operation.undecodable("the page shrank between two copies of it")
        return run[len(known) :]

    def close(self) -> None:
        """Cut the connection, if the body is not in."""
        self._body.close()


async def _as_it_is(body: Body) -> Body:
    return body


class _Feed(Generic[T]):
    """A running list: arrives at one page after the other, and gives each in runs of items."""

    def __init__(
        self, exchange: Exchange, listing: Listing[Any, T], start: _Place, ahead: int
    ) -> None:
        self._exchange = exchange
        self._listing = listing
        self._digest = start.digest
        self._before = start.count  # entries of the first page that lie before the cursor
        self._upcoming = start.target  # the page to arrive at next
        self._page: PageStyle[Any] | None = None
        self._pending: Sequence[Any] | None = None  # its entries, all at once
        self._large: _LargePage[Any] | None = None  # or as they arrive
        self._ahead = Ahead(exchange, ahead, listing.at) if ahead else None
        self._seen: set[int] = set()
        self._empty = 0
        self.target: str | None = None  # the page being given
        self.given = 0  # of its entries

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
                    self._page, size = self._large.page, self._large.size
                    self._large = None
                    self._look_ahead(cast("str", self.target), size)
                    return None
            elif self._pending is not None:
                entries, self._pending = self._pending, None
            else:
                return None
            left_out = max(0, self._before - self.given)
            self.given += len(entries)
            if left_out < len(entries):
                return self._listing.build(entries[left_out:] if left_out else entries)

    def url(self, target: str | None) -> str | None:
        """The absolute URL of a page."""
        return None if target is None else f"{self._exchange.base}{target}"

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
            return str(_Place(self._digest, self._upcoming, self._before))
        finished = self._page is not None and self._pending is None and not waiting
        if finished:
            with contextlib.suppress(LinkError):  # resumed, the list raises it again
                return str(_Place(self._digest, self._next_target(), 0))
        return str(_Place(self._digest, self.target, max(self._before, self.given - waiting)))

    def close(self) -> None:
        """Close what is open and cancel what was asked for ahead, now."""
        if self._large is not None:
            self._large.close()
        if self._ahead is not None:
            self._ahead.drop()

    def _next_target(self) -> str | None:
        if self._page is None or self.target is None:
            return None
        try:
            return self._page.following(self._exchange.base, self.target)
        except LinkError as error:
            error.operation = str(self._listing.request.operation)
            raise

    def _loop(self, why: str) -> LinkError:
        error = LinkError(f"{self._listing.request.operation} runs in a loop: {why}")
        error.operation = str(self._listing.request.operation)
        return error

    async def _fetch(self, target: str) -> None:
        request = self._listing.at(target)
        attempts = Attempts(self._exchange.retry, request.operation.method)
        self._page = self._pending = None

        async def arrived(body: Body) -> None:
            await self._open(
                body, target, _LargePage(self._exchange, self._listing, request, attempts)
            )

        guess = self._ahead.take(target) if self._ahead is not None else None
        if guess is not None:
            with self._exchange.running():
                body = await guess.body()
            if body is not None:
                # Whatever went wrong with a guess, the page is asked for properly.
                with contextlib.suppress(DecodeError):
                    await arrived(body)
                    return
            cast("Ahead", self._ahead).shrink()
        await self._exchange.run(request, arrived, attempts)

    async def _open(self, body: Body, target: str, large: _LargePage[Any]) -> None:
        """Read a small page whole; leave a large one open, in the middle."""
        pieces: list[bytes] = []
        size = 0
        while piece := await body.pull():
            pieces.append(piece)
            size += len(piece)
            if size > _SMALL and self._listing.streaming is not None:
                large.begin(body, b"".join(pieces))
                self._large = large
                return
        text = b"".join(pieces)
        streaming, operation = self._listing.streaming, self._listing.request.operation
        if streaming is None:
            page = operation.decode(text, body.content_type)
        else:
            try:
                page = streaming.whole(text)
            except NOT_DECODED as error:
                raise operation.undecodable(
                    why_not_decoded(error), empty=not text, kind=body.content_type
                ) from None
        self._page, self._pending = page, page.entries()
        self._look_ahead(target, size)

    def _look_ahead(self, target: str, size: int) -> None:
        if self._ahead is not None and self._page is not None:
            try:
                following = self._page.following(self._exchange.base, target)
            except LinkError:
                following = None  # raised when it is its turn
            self._ahead.plan(target, following, size)


class _ListIterator(Generic[T]):
    """What iterating by items and by pages share: one user at a time, and no quiet end."""

    def __init__(self, feed: _Feed[T]) -> None:
        self._feed = feed
        self._busy = False
        self._end: BaseException | None = None

    def __aiter__(self) -> Self:
        return self

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the list: what is open or under way for it ends now."""
        self._close()

    def _close(self) -> None:
        if self._end is None:
            self._end = (
                RuntimeError("this list was closed while it was waited for")
                if self._busy
                else StopAsyncIteration()
            )
        self._feed.close()

    def __del__(self) -> None:
        with contextlib.suppress(
            AttributeError, RuntimeError
        ):  # never started, or its loop is gone
            self._feed.close()

    def _enter(self) -> None:
        if self._end is not None:
            self._raise_end(self._end)
        if self._busy:
            raise RuntimeError("two tasks iterate over one list: give each its own aiter(pager)")
        self._busy = True

    def _fail(self, error: BaseException) -> None:
        """Remember how it ended, so that it ends the same way when asked again."""
        if not isinstance(error, Exception):
            error = RuntimeError(
                "this list was cancelled while it was waited for: go on with pager.resume(cursor)"
            )
        if self._end is None:
            self._end = error
        self._feed.close()

    @staticmethod
    def _raise_end(end: BaseException) -> NoReturn:
        raise end.with_traceback(None)


class ItemIterator(_ListIterator[T]):
    """A running list, item by item."""

    def __init__(self, feed: _Feed[T]) -> None:
        super().__init__(feed)
        self._run: list[T] = []
        self._items: Iterator[T] = iter(self._run)

    async def __anext__(self) -> T:
        for item in self._items:
            return item
        return await self._refill()

    async def _refill(self) -> T:
        self._enter()
        try:
            while True:
                run = await self._feed.run()
                if self._end is not None:  # closed by another task meanwhile
                    self._raise_end(self._end)
                if run:
                    self._run = run
                    self._items = iter(run)
                    return next(self._items)
                if run is None and not await self._feed.arrive():
                    raise StopAsyncIteration  # noqa: TRY301 - what `_fail` remembers
        except BaseException as error:
            self._fail(error)
            raise
        finally:
            self._busy = False

    @property
    def cursor(self) -> str:
        """Where this list is: every item that was handed over lies before it, and none after."""
        return self._feed.place(self._items.__length_hint__())  # type: ignore[attr-defined]  # of a list

    def _close(self) -> None:
        self._items = iter(())
        super()._close()


class PageIterator(_ListIterator[T]):
    """A running list, page by page."""

    async def __anext__(self) -> Page[T]:
        self._enter()
        feed = self._feed
        try:
            if not await feed.arrive():
                raise StopAsyncIteration  # noqa: TRY301 - what `_fail` remembers
            url = feed.url(feed.target)
            items: list[T] = []
            while (run := await feed.run()) is not None:
                items += run
            if self._end is not None:
                self._raise_end(self._end)
            return Page(items, url, feed.url(feed.next_target), feed.place(0))
        except BaseException as error:
            self._fail(error)
            raise
        finally:
            self._busy = False

    @property
    def cursor(self) -> str:
        """Where this list is: every page that was handed over lies before it, and none after."""
        return self._feed.place(0)
