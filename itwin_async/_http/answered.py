"""A whole answer: what `ITwinSession.request` gives with ``full=True``."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Generic, TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class Answered(Generic[T]):
    """The answer to a request: its status, some of its headers, its id, and what it decoded to.

    ``headers`` has ``Content-Type``, ``Date``, ``ETag``, ``Last-Modified``, ``Location``,
    ``Retry-After`` and those about rate limits, as far as they came, by name in any case; never
    cookies.
    ``request_id`` is the correlation id under which the platform knows the request.
    """

    status: int
    headers: Mapping[str, str] = field(repr=False)
    request_id: str
    data: T = field(repr=False)
