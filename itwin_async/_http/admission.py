"""Admits requests to the platform: a token and a limiter slot together; pauses all after a 429."""

import time

from itwin_async._http.external import ExternalClient
from itwin_async._http.host_pauses import DEFAULT_RETRY_AFTER, MAX_PAUSE
from itwin_async._http.instrumentation import Instrumentation, OperationSpan
from itwin_async._http.rate_limiter import RateLimiter, Slot
from itwin_async._http.token_cache import TokenCache
from itwin_async.auth import Token
from itwin_async.errors import ITwinError, RateLimitError
from itwin_async.retries import Retry, RetryState


class Admission:
    """Gives each request its token and its slot. The views of a session share one."""

    __slots__ = ("_external", "_instrumentation", "_limiter", "_tokens", "consecutive_pauses")

    def __init__(
        self,
        tokens: TokenCache,
        external: ExternalClient,
        limiter: RateLimiter,
        instrumentation: Instrumentation,
    ) -> None:
        self._tokens = tokens
        self._external = external
        self._limiter = limiter
        self._instrumentation = instrumentation
        self.consecutive_pauses = 0  # without a success between them

    def acquire_now(self) -> tuple[Slot, Token] | None:
        """A slot and a token if there is no wait for either, else None."""
        token = self._tokens.usable(self._external)
        slot = None if token is None else self._limiter.acquire_now()
        return None if token is None or slot is None else (slot, token)

    async def acquire(
        self,
        retry_state: RetryState,
        span: OperationSpan | None,
        operation: str,
        throttle: RateLimitError | None,
    ) -> tuple[Slot, Token]:
        """Wait for a slot, and for a token that is usable while the slot is held.

        Raises ``throttle``, the 429 that this call had before, where the limiter rejects it.
        """
        limiter, retry = self._limiter, retry_state.retry
        for is_last in (False, True):
            token = await self.token(retry_state)
            slot = limiter.acquire_now()
            if slot is not None:
                return slot, token
            paused_before, since = limiter.total_paused(), time.monotonic()
            try:
                slot = await limiter.acquire(
                    retry.max_retry_after, retry.max_throttled - retry_state.throttled
                )
            except RateLimitError as rejection:
                failure = throttle or rejection
                failure.retry_after = rejection.retry_after
                failure.operation = failure.operation or operation
                failure.outcome_unknown = retry_state.outcome_unknown(failure)
                waited = retry_state.throttled + limiter.total_paused() - paused_before
                _add_wait_to_message(failure, waited)
                raise failure from None
            finally:
                retry_state.throttled += limiter.total_paused() - paused_before
                if span is not None:
                    span.waited += time.monotonic() - since
            usable = self._tokens.usable(self._external)
            if usable is not None or is_last:
                return slot, usable or token
            slot.release(sent=False)  # the token expired meanwhile: get one without a slot
        raise AssertionError("unreachable")

    async def token(self, retry_state: RetryState) -> Token:
        """A token that is usable now."""
        try:
            return await self._tokens.get(self._external)
        except ITwinError as error:  # each caller has a copy of its own
            error.outcome_unknown = error.outcome_unknown or retry_state.earlier_outcome_unknown
            raise

    def pause(self, operation: str, asked: float | None, request_id: str, retry: Retry) -> None:
        """Pause all requests after a 429, before the rest of its body is read."""
        # At least a moment, for a 429 that asks for no wait could be repeated without end.
        seconds = asked or max(DEFAULT_RETRY_AFTER, retry.backoff(self.consecutive_pauses + 1))
        seconds = min(seconds, MAX_PAUSE)
        if self._limiter.pause(seconds):
            self.consecutive_pauses += 1
            self._instrumentation.rate_limited(operation, seconds, request_id)


def _add_wait_to_message(error: RateLimitError, seconds: float) -> None:
    if seconds >= 0.05:
        error.message = f"{error.message} (waited {seconds:.1f} s)"
