"""The limiter that users build and share; `_http.rate_limiter` does its work."""

from typing import Final, NoReturn

from itwin_async._core.validation import check_count
from itwin_async._http.rate_limiter import RateLimiter


class Limiter:
    """Bounds how many requests are under way, and how many are sent per minute and hour.

    It is one OAuth client's share of the platform; the sessions of one event loop may share it.

    Example::

        limiter = Limiter(16, per_minute=500)
        async with (
            ITwinSession.from_env(limiter=limiter) as one,
            ITwinSession.from_env(limiter=limiter) as other,
        ):
            assert one.limiter is other.limiter

    ``concurrency`` bounds the requests under way: from their sending until their body is in, or
    until a large body is paused for its consumer. No 60 (3,600) seconds hold more sends than
    ``per_minute`` (``per_hour``), retries included; None is no bound. A 429 pauses all requests
    until its ``Retry-After`` is over; then they start again one after another. Requests wait first
    come, first served.

    Raises `TypeError` or `ValueError` for a bound that is not a whole number of at least 1, and
    `RuntimeError` when a second event loop uses it.
    Platform page: https://developer.bentley.com/apis/overview/rate-limits/
    """

    def __init__(
        self, concurrency: int = 16, *, per_minute: int | None = None, per_hour: int | None = None
    ) -> None:
        self.concurrency: Final = concurrency
        self.per_minute: Final = per_minute
        self.per_hour: Final = per_hour
        check_count("concurrency", concurrency)
        check_count("per_minute", per_minute, optional=True)
        check_count("per_hour", per_hour, optional=True)
        self._rate_limiter = RateLimiter(concurrency, per_minute, per_hour)

    def __repr__(self) -> str:
        return (
            f"Limiter({self.concurrency}, per_minute={self.per_minute}, per_hour={self.per_hour})"
        )

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            "a Limiter does not pickle, for it belongs to one event loop: make one in each process"
        )

    @property
    def in_use(self) -> int:
        """Slots that are taken now."""
        return self._rate_limiter.in_use

    @property
    def waiting(self) -> int:
        """Requests that wait now for a slot, a rate window or the end of a pause."""
        return self._rate_limiter.waiting


def rate_limiter_of(limiter: Limiter) -> RateLimiter:
    """What grants the slots of a limiter; for the library's own modules."""
    # A friend of the class.
    return limiter._rate_limiter  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
