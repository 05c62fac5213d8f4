"""Waiting for a browser to come back: the page on loopback, and all who wait for it together."""

import asyncio
import errno
import os
from collections.abc import Awaitable, Coroutine, Sequence
from typing import Any, Final

from itwin_async._aio.loops import background
from itwin_async._aio.threads import completed
from itwin_async._core.oauth import (
    AuthorizationRequest,
    ForeignStateError,
    check_redirect,
    parse_redirect,
)
from itwin_async._core.secrets import SecretStr
from itwin_async._http.loopback import LoopbackServer
from itwin_async._sign_in.browser import OpenBrowser, open_address
from itwin_async.auth import Token
from itwin_async.errors import TransportError, UnauthorizedError, is_own, own_copy

_BROWSER_LINGER: Final = 1.0  # seconds for a browser of the caller's own to come to its end


class SignInPage:
    """A server that waits for the answer to one request."""

    def __init__(self, request: AuthorizationRequest) -> None:
        self.request: Final = request
        self.server: Final = LoopbackServer(request.redirect_uri, self._answer)
        self._outcome: SecretStr | Exception | None = None

    def _answer(self, query: SecretStr) -> tuple[str, str] | None:
        try:
            self._outcome = parse_redirect(self.request, query)
        except ForeignStateError:
            return None
        except (UnauthorizedError, ValueError) as error:
            self._outcome = error.with_traceback(None)
            return "Not signed in", f"{str(error).rstrip('.')}. You can close this page."
        return "Signed in", "You can close this page and go back to where you came from."

    async def receive_code(self, open_browser: OpenBrowser) -> SecretStr:
        """Open the browser and wait for the code that it brings back; then stop listening."""
        async with self.server:
            opening = background(open_address(open_browser, self.request.url), "browser")
            answer = background(self.server.wait(), "answer of the browser")
            try:
                await asyncio.wait([opening, answer], return_when=asyncio.FIRST_COMPLETED)
                if not answer.done():
                    await opening  # or what it raises
                    await answer
                elif callable(open_browser):  # it may still read the page
                    await asyncio.wait([opening], timeout=_BROWSER_LINGER)
            finally:
                opening.cancel()
                answer.cancel()
                await asyncio.wait([opening, answer])
                if not opening.cancelled():
                    opening.exception()  # looked at, or asyncio complains
        return self._take()

    def _take(self) -> SecretStr:
        outcome, self._outcome = self._outcome, None
        if isinstance(outcome, SecretStr):
            return outcome
        if isinstance(outcome, UnauthorizedError):
            raise outcome
        raise UnauthorizedError(str(outcome)) from None


async def listen(requests: Sequence[AuthorizationRequest]) -> SignInPage:
    """Listen on the first redirect address on loopback whose port is free."""
    reasons: list[str] = []
    for request in requests:
        origin = check_redirect(request.redirect_uri)
        if origin.scheme != "http":
            continue
        page = SignInPage(request)
        try:
            await page.server.start()
        except OSError as error:
            number = error.errno or 0
            reasons.append(f"port {origin.port}: {os.strerror(number) if number else error}")
        else:
            return page
    if not reasons:
        raise ValueError(
            "none of redirect_uris is http on loopback, where sign_in could listen: use "
            "begin_sign_in, or auth login --no-browser"
        )
    raise OSError(
        errno.EADDRINUSE,
        f"no address of redirect_uris can be listened on: {', '.join(reasons)}",
    )


class SharedSignIn:
    """A sign-in that all who call `sign_in` meanwhile share; without anybody left it ends."""

    def __init__(self) -> None:
        self.answered: Final = asyncio.Event()
        self._waiters = 0

    def begin(self, work: Coroutine[Any, Any, Token]) -> None:
        """Begin it."""
        self._task: asyncio.Task[Token | Exception] = background(_capture(work), "sign-in")

    def joinable(self) -> bool:
        """Whether it goes on, in this event loop."""
        return (
            self._task.get_loop() is asyncio.get_running_loop()
            and not self._task.done()
            and not self._task.cancelling()
        )

    async def wait(self, seconds: float) -> Token:
        """The token; `TransportError` where no browser came back within so many ``seconds``."""
        self._waiters += 1
        answered = background(self.answered.wait(), "sign-in")
        try:
            await asyncio.wait(
                [self._task, answered], timeout=seconds, return_when=asyncio.FIRST_COMPLETED
            )
            if not self._task.done() and not self.answered.is_set():
                raise TransportError(
                    f"nobody signed in within {seconds:g} s: where the browser runs on another "
                    "machine, use `flow = itwin.begin_sign_in()`, or auth login --no-browser",
                    "timeout",
                )
            await asyncio.wait([self._task])
            if self._task.cancelled():
                raise RuntimeError("the sign-in was cancelled: begin another")
        finally:
            answered.cancel()
            self._waiters -= 1
            if not self._waiters and not self._task.done():
                self._task.cancel()
                await completed(background(_ended(self._task), "end of a sign-in"))
        outcome = self._task.result()
        if isinstance(outcome, Token):
            return outcome
        if is_own(outcome):
            raise own_copy(outcome) from outcome.__cause__
        raise outcome


async def _ended(task: "asyncio.Task[Any]") -> None:
    await asyncio.wait([task])


async def _capture(work: Awaitable[Token]) -> Token | Exception:
    try:
        return await work
    except Exception as error:  # noqa: BLE001 - raised to each waiter
        return error
