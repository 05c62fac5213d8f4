"""A large page, whose entries are handed over while it arrives."""

from array import array
from collections.abc import Sequence
from typing import Any, Final, Generic, NoReturn, TypeVar

from itwin_async._core.json import NOT_DECODED, why_not_decoded
from itwin_async._core.operation import Request
from itwin_async._http.body import Body
from itwin_async._http.executor import RequestExecutor
from itwin_async._pagination.json_splitter import Splitter
from itwin_async._pagination.page_types import PageProtocol, Streaming
from itwin_async._pagination.prefetch import BufferedBody
from itwin_async.errors import DecodeError, TransportError
from itwin_async.retries import RetryState

E = TypeVar("E")


# Bytes of a page's second copy that are read at once, whatever the consumer does, and the share
# by which it must surpass the first one for the faults before it to count no longer.
_AT_ONCE: Final = 4 << 20


_PROGRESS: Final = 1 / 16


class StreamedPage(Generic[E]):
    """A page whose entries are handed over while it arrives.

    A page cut short is asked for again. Of the entries handed over only fingerprints are kept: the
    next copy is compared with them and goes on behind them. Copies that bring little more than the
    one before count as faults, so that what is read again is bounded.
    """

    def __init__(
        self,
        executor: RequestExecutor,
        streaming: Streaming[E],
        request: Request[Any],
        attempts: RetryState,
    ) -> None:
        self._executor = executor
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
        self.page: PageProtocol[E] | None = None
        self.size = 0

    def begin(self, body: Body, head: bytes) -> None:
        """Go on with a body of which ``head`` was read."""
        streaming = self._streaming
        self._body = body
        self._head = head
        self._again = self.size = 0
        self._wanted = self._reached * (1 + _PROGRESS)
        self._splitter: Splitter[PageProtocol[E], E] = Splitter(
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
        if not isinstance(self._body, BufferedBody):  # what a guess brought costs nothing
            with self._executor.lifecycle.scope():
                await self._executor.wait_before_retry(self._attempts, error)
        error.with_traceback(None)  # its frames go on, and would keep what they collect
        self.begin(await self._executor.execute(self._request, _identity, self._attempts), b"")
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
        raise self._request.operation.decode_error(why, kind=self._body.content_type)

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
        error = self._request.operation.decode_error(why)
        self.close(error)
        raise error

    def close(self, error: BaseException | None = None) -> None:
        """Cut the connection, if the body is not in; ``error`` is why, None for no more need."""
        self._body.close(error)


async def _identity(body: Body) -> Body:
    return body
