"""A sign-in whose browser runs elsewhere."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager

from itwin_async._core.oauth import AuthorizationRequest, parse_redirect, query_of
from itwin_async._core.secrets import SecretStr
from itwin_async._sign_in.browser import link_html
from itwin_async.auth import Token
from itwin_async.errors import ServerError, TransportError


class SignInFlow:
    """A sign-in whose browser runs elsewhere: open `url`, then `finish` with where it led to."""

    def __init__(
        self,
        request: AuthorizationRequest,
        redeem: Callable[[AuthorizationRequest, SecretStr], Awaitable[Token]],
        running: Callable[[], AbstractContextManager[object]],
        signed_in: Callable[[Token], None],
    ) -> None:
        self._request = request
        self._redeem = redeem
        self._running = running
        self._signed_in = signed_in
        self._over = False

    def __repr__(self) -> str:
        return f"SignInFlow({self._request.authority}, redirect_uri={self._request.redirect_uri!r})"

    def _repr_html_(self) -> str:
        return (
            f"{link_html(self.url)}<p>then <code>await flow.finish(address)</code> with the "
            "address that the browser was sent to</p>"
        )

    @property
    def url(self) -> str:
        """The address to open in a browser, by the person who signs in."""
        return self._request.url

    async def finish(self, address: str) -> None:
        """Sign in with the address that the browser was sent to, which may show an error there.

        Raises `ValueError` for the address of another sign-in, after which this one can still be
        finished, and `UnauthorizedError`, with the host's ``code``, where it was refused.
        """
        kind: type[object] = type(address)
        query = query_of(SecretStr(address)) if issubclass(kind, str) else None
        del address  # a report of an error shows the locals of its frames
        if query is None:
            raise TypeError(f"address must be a str, not {kind.__name__}")
        with self._running():
            code = parse_redirect(self._request, query)
            if self._over:
                raise ValueError("this sign-in is over: begin another")
            self._over = True
            try:
                token = await self._redeem(self._request, code)
            except (TransportError, ServerError, asyncio.CancelledError):
                self._over = False  # the code may still be good
                raise
            self._signed_in(token)
