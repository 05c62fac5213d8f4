"""What tests do to an emulated platform without a request: count, expire, throttle, change."""

import math

from itwin_async.emulator import _arguments
from itwin_async.emulator._changes import PlatformChanges
from itwin_async.emulator._faults.plan import Faults, check_operation
from itwin_async.emulator._faults.record import RequestRecord
from itwin_async.emulator._identity.server import IdentityServer
from itwin_async.emulator._identity.users import SERVICE_USER
from itwin_async.emulator._pipeline import Pipeline
from itwin_async.emulator._rate_limit import RateLimit
from itwin_async.emulator._state.state import State


class Controls(PlatformChanges):
    """Changes the platform from the outside, without a request, and counts what arrived."""

    def __init__(
        self, state: State, identity: IdentityServer, rate_limit: RateLimit, pipeline: Pipeline
    ) -> None:
        self._state = state
        self._identity = identity
        self._rate_limit = rate_limit
        self._pipeline = pipeline
        self.faults: Faults = pipeline.faults
        self.requests: list[RequestRecord] = pipeline.requests

    @property
    def latency(self) -> float:
        """The wait in seconds before each response of the API; it can be set."""
        return self._pipeline.latency

    @latency.setter
    def latency(self, seconds: float) -> None:
        _arguments.check_number("latency", seconds)
        self._pipeline.latency = seconds

    @property
    def max_in_flight(self) -> int:
        """The most API requests there ever were at once; it can be set, to count anew."""
        return self._pipeline.max_in_flight

    @max_in_flight.setter
    def max_in_flight(self, count: int) -> None:
        self._pipeline.max_in_flight = count

    def count(self, operation: str) -> int:
        """How many requests of this operation arrived; `ValueError` where there is no such."""
        check_operation(operation)
        return sum(record.operation == operation for record in self.requests)

    def issue_token(self, lifetime: float | None = None, *, user: str | None = None) -> str:
        """An access token without asking the token endpoint, of a lifetime of its own if given.

        It belongs to the service application, or to the ``user`` of this name. A lifetime below
        zero gives a token that has expired.
        """
        if lifetime is not None:
            _arguments.check_number("lifetime", lifetime, least=-math.inf)
        account = SERVICE_USER if user is None else self._identity.find_user(user)
        return self._identity.access_tokens.issue(account, lifetime)

    def expire_tokens(self) -> None:
        """Let all access tokens expire now."""
        self._identity.access_tokens.expire_all()

    def expire_refresh_tokens(self) -> None:
        """Let all refresh tokens expire now."""
        self._identity.refresh_tokens.expire_all()

    def sign_in_as(self, user: str | None, authorize_url: str) -> str:
        """Choose a user without a browser, and give the address to which it would be sent.

        ``authorize_url`` is the address that the browser would open. None refuses. Raises
        `ValueError` for an unknown user, client or redirect URI.

        Example::

            provider = UserSignIn(emulator.user_client_id)
            async with ITwinSession(provider, base_url=emulator.url) as itwin:
                flow = itwin.begin_sign_in()
                await flow.finish(emulator.sign_in_as("reader", flow.url))
                print(await itwin.get_me())
        """
        _arguments.check_str("authorize_url", authorize_url)
        if user is not None:
            self._identity.find_user(user)
        return self._identity.sign_in_as(user, authorize_url)

    def throttle(self, seconds: float) -> None:
        """Respond 429 to all API requests for so long, each with the rest of it to wait."""
        _arguments.check_number("seconds", seconds)
        self._rate_limit.close(seconds)
