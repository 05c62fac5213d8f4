"""A large page, whose entries are delivered while it arrives."""

from array import array
from collections.abc import Sequence
from typing import Any, Final, Generic, NoReturn, TypeVar

from itwin_async._core.json import NOT_DECODED, why_not_decoded
from itwin_async._core.operation import Request
from itwin_async._http.body import Body
from itwin_async._http.executor import RequestExecutor
from itwin_async._pagination.json_splitter import Splitter
from itwin_async._pagination.list_spec import StreamFormat
from itwin_async._pagination.page_types import PageProtocol
from itwin_async._pagination.prefetch import BufferedBody
from itwin_async.errors import DecodeError, TransportError
from itwin_async.retries import RetryState

E = TypeVar("E")

# Bytes of a repeated page that are read without waiting for the consumer.
_DRAIN_SIZE: Final = 4 << 20
# A copy that gets this much further than the one before resets the count of faults.
_PROGRESS: Final = 1 / 16


class StreamedPage(Generic[E]):
    """A page whose entries are delivered while it arrives.

    A page that is cut short is requested again. Only fingerprints of the delivered entries are
    kept: the next copy is compared with them, and delivery continues behind them. A copy that gets
    hardly further than the one before counts as a fault, so that repeated reading is bounded.
    """

    def __init__(
        self,
        executor: RequestExecutor,
        stream_format: StreamFormat[E],
        request: Request[Any],
        attempts: RetryState,
    ) -> None:
        self._executor = executor
        self._format = stream_format
        self._request = request
        self.target = request.target
        self._attempts = attempts
        self._fingerprints = array("q")  # of the delivered entries
        self._replayed = 0  # how many of them the current copy has repeated
        self._delivered_size = 0  # bytes of a copy up to the last delivered entry
        self._progress_size = 0.0  # bytes from which on the current copy is progress
        self._drain = False
        self._failure: TransportError | DecodeError | None = None
        self.page: PageProtocol[E] | None = None
        self.size = 0

    def begin(self, body: Body, head: bytes) -> None:
        """Read on from a body whose first bytes, ``head``, were read already."""
        self._body = body
        self._head = head
        self._replayed = self.size = 0
        self._progress_size = self._delivered_size * (1 + _PROGRESS)
        self._splitter: Splitter[PageProtocol[E], E] = Splitter(
            self._format.list_start, self._format.decode_page, self._format.decode_entries
        )

    async def next_batch(self) -> Sequence[E] | None:
        """The next entries, or None at the page's end."""
        fresh: Sequence[E] = ()
        start = 0
        while self.page is None and (
            not fresh or (self._drain and self.size < start + _DRAIN_SIZE)
        ):
            try:
                batch = await self._read_batch()
            except (TransportError, DecodeError) as error:
                if fresh:
                    self._failure = error  # raised after they are delivered
                    break
                await self._request_again(error)
                continue
            more = self._skip_replayed(batch)
            start = start or (self.size if more else 0)
            fresh = [*fresh, *more] if fresh else more
        if not fresh:
            return None
        self._delivered_size = max(self._delivered_size, self.size)
        if self.size >= self._progress_size:
            self._attempts.progressed()
        return fresh

    async def _request_again(self, error: TransportError | DecodeError) -> None:
        """Begin with another copy of the page, if this failure may be retried."""
        self.close(error)
        error.operation = str(self._request.operation)
        error.request_id = self._body.request_id
        if not isinstance(self._body, BufferedBody):  # a prefetched copy costs no attempt
            with self._executor.lifecycle.scope():
                await self._executor.wait_before_retry(self._attempts, error)
        error.with_traceback(None)  # its frames live on, and would keep their entries
        self.begin(await self._executor.execute(self._request, _identity, self._attempts), b"")
        # The server may have cut a slow consumer off: read without waiting for it.
        self._drain = True

    async def _read_batch(self) -> Sequence[E]:
        """The entries that the next chunk completes; at the end of the body, the rest."""
        if self._failure is not None:
            failure, self._failure = self._failure, None
            raise failure
        chunk, self._head = self._head or await self._body.pull(), b""
        self.size += len(chunk)
        try:
            if chunk:
                return self._splitter.feed(chunk)
            self.page = self._splitter.finish()
            return self.page.entries()
        except NOT_DECODED as error:
            why = why_not_decoded(error)
        del chunk  # no frame of an error shows it
        raise self._request.operation.decode_error(why, kind=self._body.content_type)

    def _skip_replayed(self, batch: Sequence[E]) -> Sequence[E]:
        """The entries that were not delivered before; `DecodeError` if the page has changed."""
        key = self._format.entry_key
        fingerprints = array("q", (hash(key(entry)) for entry in batch))
        known = self._fingerprints[self._replayed : self._replayed + len(batch)]
        if known != fingerprints[: len(known)]:
            self._raise_changed("the page changed between two copies of it")
        self._replayed += len(batch)
        self._fingerprints += fingerprints[len(known) :]
        if self.page is not None and self._replayed < len(self._fingerprints):
            self._raise_changed("the page shrank between two copies of it")
        return batch[len(known) :] if known else batch

    def _raise_changed(self, why: str) -> NoReturn:
        error = self._request.operation.decode_error(why)
        self.close(error)
        raise error

    def close(self, error: BaseException | None = None) -> None:
        """Close the connection, unless the body was read whole; ``error`` is why, if any."""
        self._body.close(error)


async def _identity(body: Body) -> Body:
    return body
