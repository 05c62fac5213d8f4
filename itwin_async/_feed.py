"""A running list: one page after the other, each in runs of items as they arrive."""

import contextlib
from array import array
from collections.abc import Sequence
from typing import Any, Final, Generic, NoReturn, TypeVar, cast

from itwin_async._ahead import Ahead, KeptBody
from itwin_async._exchange import Body, Exchange, read_whole
from itwin_async._loops import LoopBinding
from itwin_async._operation import NOT_DECODED, Request, why_not_decoded
from itwin_async._pages import Listing, ODataPage, PageStyle, Place, Streaming
from itwin_async._splitting import Splitter
from itwin_async.errors import DecodeError, LinkError, TransportError, own_copy
from itwin_async.retries import Attempts

T = TypeVar("T")
E = TypeVar("E")

_SMALL: Final = 256 * 1024  # bytes; a page of up to so many is read whole and decoded at once
# Bytes of a page's second copy that are read at once, whatever the consumer does, and the share
# by which it must surpass the first one for the faults before it to count no longer.
_AT_ONCE: Final = 4 << 20
_PROGRESS: Final = 1 / 16
_EMPTY_IN_A_ROW: Final = 1_000  # empty pages with a next link, after which a list is a loop


class LargePage(Generic[E]):
    """A page whose entries are handed over while it arrives.

    A page cut short is asked for again. Of the entries handed over only fingerprints are kept: the
    next copy is compared with them and goes on behind them. Copies that bring little more than the
    one before count as faults, so that what is read again is bounded.
    """

    def __init__(
        self,
        exchange: Exchange,
        streaming: Streaming[E],
        request: Request[Any],
        attempts: Attempts,
    ) -> None:
        self._exchange = exchange
        self._streaming = streaming
        self._request = request
        self.target = request.target
        self._attempts = attempts
        self._fingerprints = array("q")  # of the entries handed over
        self._again = 0  # how many of them the present copy of the page has shown
        self._reached = 0  # bytes of a copy up to the last entry handed over
        self._wanted = 0.0  # bytes from which on the present copy is progress
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
        self._wanted = self._reached * (1 + _PROGRESS)
        self._splitter: Splitter[PageStyle[E], E] = Splitter(
            streaming.opening, streaming.whole, streaming.run
        )

    async def entries(self) -> Sequence[E] | None:
        """The next run of entries, or None at the page's end."""
        fresh: Sequence[E] = ()
        begun = 0
        while self.page is None and (not fresh or (self._hurry and self.size < begun + _AT_ONCE)):
            try:
                run = await self._run()
            except (TransportError, DecodeError) as error:
                if fresh:
                    self._failure = error  # its turn comes behind them
                    break
                await self._ask_again(error)
                continue
            more = self._unseen(run)
            begun = begun or (self.size if more else 0)
            fresh = [*fresh, *more] if fresh else more
        if not fresh:
            return None
        self._reached = max(self._reached, self.size)
        if self.size >= self._wanted:
            self._attempts.progressed()
        return fresh

    async def _ask_again(self, error: TransportError | DecodeError) -> None:
        """Begin with another copy of the page, if the failure of this one allows it."""
        self.close(error)
        error.operation = str(self._request.operation)
        error.request_id = self._body.request_id
        if not isinstance(self._body, KeptBody):  # what a guess brought costs nothing
            with self._exchange.life.running():
                await self._exchange.again(self._attempts, error)
        error.with_traceback(None)  # its frames go on, and would keep what they collect
        self.begin(await self._exchange.run(self._request, _as_it_is, self._attempts), b"")
        # A server may have lost patience with a slow consumer: read on without waiting for it.
        self._hurry = True

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
            why = why_not_decoded(error)
        del piece  # no frame of an error shows it
        raise self._request.operation.undecodable(why, kind=self._body.content_type)

    def _unseen(self, run: Sequence[E]) -> Sequence[E]:
        """What of a run was not handed over before; `DecodeError` if the page has changed."""
        key = self._streaming.key
        fingerprints = array("q", (hash(key(entry)) for entry in run))
        known = self._fingerprints[self._again : self._again + len(run)]
        if known != fingerprints[: len(known)]:
            self._changed("the page changed between two copies of it")
        self._again += len(run)
        self._fingerprints += fingerprints[len(known) :]
        if self.page is not None and self._again < len(self._fingerprints):
            self._changed("the page shrank between two copies of it")
        return run[len(known) :] if known else run

    def _changed(self, why: str) -> NoReturn:
        error = self._request.operation.undecodable(why)
        self.close(error)
        raise error

    def close(self, error: BaseException | None = None) -> None:
        """Cut the connection, if the body is not in; ``error`` is why, None for no more need."""
        self._body.close(error)


async def _as_it_is(body: Body) -> Body:
    return body


class Feed(Generic[T]):
    """A running list: arrives at one page after the other, and gives each in runs of items."""

    def __init__(
        self, exchange: Exchange, listing: Listing[Any, T], start: Place, ahead: int
    ) -> None:
        self._exchange = exchange
        self._listing = listing
        self._digest = start.digest
        self._before = start.count  # entries of the first page that lie before the cursor
        self._upcoming = start.target  # the page to arrive at next
        # Of a page nothing is kept but its next link: its entries live as long as their consumer
        # wants. (200 lists that kept theirs spent a third of their time in the collector.)
        self._complete = False
        self._next: str | LinkError | None = None
        self._pending: Sequence[Any] | None = None  # the page's entries, all at once
        self._large: LargePage[Any] | None = None  # or as they arrive
        self._ahead = Ahead(exchange, ahead, listing.at) if ahead else None
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
                    self._finish(cast("PageStyle[Any]", large.page), large.target, large.size)
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
            return str(Place(self._digest, self._upcoming, self._before))
        if self._complete and self._pending is None and not waiting:
            with contextlib.suppress(LinkError):  # resumed, the list raises it again
                return str(Place(self._digest, self._next_target(), 0))
        return str(Place(self._digest, self.target, max(self._before, self.given - waiting)))

    def close(self) -> None:
        """Close what is open and cancel what was asked for ahead, now."""
        if self._large is not None:
            self._large.close()
        if self._ahead is not None:
            self._ahead.drop()

    @property
    def binding(self) -> LoopBinding:
        """The loop in which this may be closed."""
        return self._exchange.life.binding

    def _next_target(self) -> str | None:
        if isinstance(self._next, LinkError):
            raise own_copy(self._next)
        return self._next

    def _loop(self, why: str) -> LinkError:
        error = LinkError(f"{self._listing.request.operation} runs in a loop: {why}")
        error.operation = str(self._listing.request.operation)
        return error

    async def _fetch(self, target: str) -> None:
        request = self._listing.at(target)
        attempts = Attempts(self._exchange.retry, request.operation.method)
        self._next = self._pending = None
        self._complete = False

        async def arrived(body: Body) -> tuple[PageStyle[Any], int] | None:
            return await self._open(body, request, attempts)

        guess = self._ahead.take(target) if self._ahead is not None else None
        if guess is not None:
            with self._exchange.life.running():
                body = await guess.body()
            if body is not None:
                try:
                    return self._settle(await arrived(body), target)
                except BaseException as error:
                    body.close()
                    # Whatever went wrong with a guess, the page is asked for properly.
                    if not isinstance(error, DecodeError):
                        raise
            cast("Ahead", self._ahead).shrink()
        return self._settle(await self._exchange.run(request, arrived, attempts), target)

    def _settle(self, arrived: tuple[PageStyle[Any], int] | None, target: str) -> None:
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
            self._ahead.presume(target)

    async def _open(
        self, body: Body, request: Request[Any], attempts: Attempts
    ) -> tuple[PageStyle[Any], int] | None:
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
                    self._large = LargePage(self._exchange, streaming, request, attempts)
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
            raise operation.undecodable(why, empty=empty, kind=kind)
        return page, len(text)

    def _finish(self, page: PageStyle[Any], target: str, size: int) -> None:
        """A page is in: learn what follows, and ask for it if there is read-ahead."""
        self._complete = True
        try:
            self._next = page.following(self._exchange.base, target)
        except LinkError as error:  # raised when its turn has come
            error.operation = str(self._listing.request.operation)
            self._next = own_copy(error)  # whose frames lead here
        if self._ahead is not None:
            self._ahead.plan(target, self._next if isinstance(self._next, str) else None, size)
