"""Statistics and events of a session."""

from collections.abc import Callable
from typing import TypeAlias

import msgspec

from itwin_async._core.dataclass_fields import DataclassStruct
from itwin_async._core.html import fields_table


class Stats(DataclassStruct, frozen=True):
    """What a session has done so far: counts, and ``bytes_received`` of bodies as decompressed.

    ``requests`` counts what was sent to the API and for files, but not for tokens, ``retries``
    those sent again after a fault, ``throttled`` the responses of status 429, ``pauses`` how often
    they paused the limiter, ``renewals`` the tokens fetched, ``outages`` how often an origin went
    out of service, ``probes`` the requests that found it still so. ``prefetched`` counts the pages
    requested ahead of their turn, which are among ``requests``, and ``prefetched_in_vain`` those
    that were not used.
    """

    requests: int = 0
    retries: int = 0
    throttled: int = 0
    pauses: int = 0
    renewals: int = 0
    bytes_received: int = 0
    outages: int = 0
    probes: int = 0
    prefetched: int = 0
    prefetched_in_vain: int = 0

    def _repr_html_(self) -> str:
        return fields_table("Stats", msgspec.structs.asdict(self).items())


class ResponseReceived(DataclassStruct, frozen=True):
    """The headers of a response came, or none did: then ``status`` is 0.

    ``seconds`` is the time since the request was sent.
    """

    operation: str
    status: int
    seconds: float
    request_id: str


class RetryScheduled(DataclassStruct, frozen=True):
    """A request will be sent again in ``delay`` seconds; ``attempt`` counts the faults so far."""

    operation: str
    attempt: int
    delay: float
    reason: str
    request_id: str | None


class RateLimited(DataclassStruct, frozen=True):
    """A 429 paused all requests of the limiter for ``seconds`` from now."""

    operation: str
    seconds: float
    request_id: str


class TokenRenewed(DataclassStruct, frozen=True):
    """A token was fetched; ``expires_in`` is its life in seconds, None where it has no end."""

    expires_in: float | None


class OperationFinished(DataclassStruct, frozen=True, kw_only=True):
    """An operation is over: a page of a list counts as one, and so do a file and a token.

    ``seconds`` is the time it took, ``waited`` of them for a slot, a rate window or the end of a
    pause. ``attempts`` counts how often it was sent, ``throttled`` the responses of status 429,
    ``bytes_received`` those of its bodies as decompressed. ``status`` is the last response's, 0
    where there was none; ``error`` the name of the error it ended with, None for a success. The
    listener is called in the context, as of ``contextvars``, in which the operation began.
    """

    operation: str
    seconds: float
    waited: float
    attempts: int
    throttled: int
    bytes_received: int
    status: int
    error: str | None
    request_id: str | None


class OutageStarted(DataclassStruct, frozen=True):
    """An origin gave no response, or 5xx, to two targets: calls wait, and one at a time probes.

    ``origin`` is such as ``https://api.bentley.com``, the platform, a sign-in host or the host of a
    download; ``reason`` says what the last request met with.
    """

    origin: str
    reason: str
    request_id: str | None


class OutageEnded(DataclassStruct, frozen=True):
    """An origin responds again, and the calls that waited start one after another.

    ``seconds`` is how long the outage lasted, ``failed_probes`` the number of
    requests sent during the outage in vain.
    """

    origin: str
    seconds: float
    failed_probes: int


class IModelGone(DataclassStruct, frozen=True):
    """An iModel that was followed, by a `ChangeFeed` or a sync, was deleted, or hidden from us."""

    imodel_id: str


Event: TypeAlias = (
    ResponseReceived
    | RetryScheduled
    | RateLimited
    | TokenRenewed
    | OutageStarted
    | OutageEnded
    | OperationFinished
    | IModelGone
)
OnEvent: TypeAlias = Callable[[Event], object]
