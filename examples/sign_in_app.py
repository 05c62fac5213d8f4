"""A web application whose users sign in: every request with its own user's token, and sign-out.

    python -m itwin_async.emulator --port 8080     # in another terminal; export what it prints
    export ITWIN_WEB_CLIENT_ID=... ITWIN_WEB_CLIENT_SECRET=...    # of your Web App
    uvicorn --no-access-log --app-dir examples sign_in_app:app    # http://127.0.0.1:8000/login

The access log would show the codes with which users come back. A user is a random id in a cookie
that scripts cannot read, and a session on the server.
"""

import os
import secrets
from collections import OrderedDict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any, Final, Generic, TypeVar

from fastapi import Depends, FastAPI, Header, HTTPException, Request
from fastapi.responses import JSONResponse, RedirectResponse, Response

from itwin_async import (
    ITwinError,
    ITwinSession,
    Limiter,
    SignInFlow,
    StaticToken,
    UnauthorizedError,
    UserSignIn,
    plain,
)

MOST_USERS: Final = 1_000  # signed in at once; the least recent ones have to sign in again
BEGUN, SIGNED_IN = "signing-in", "signed-in"  # the cookies
T = TypeVar("T")


class Kept(Generic[T]):
    """Values by a random id that only their user's browser has; forgets the least recent ones."""

    def __init__(self) -> None:
        self._values: OrderedDict[str, T] = OrderedDict()

    def add(self, value: T) -> str:
        """Keep a value; its new id."""
        key = secrets.token_urlsafe(32)
        self._values[key] = value
        while len(self._values) > MOST_USERS:
            self._values.popitem(last=False)  # a session closes when its last call is over
        return key

    def get(self, key: str | None) -> T | None:
        """The value of an id."""
        if key not in self._values:
            return None
        self._values.move_to_end(key)
        return self._values[key]

    def pop(self, key: str | None) -> T | None:
        """The value of an id, which is forgotten."""
        return self._values.pop(key or "", None)

    def clear(self) -> list[T]:
        """Forget all of them."""
        values = list(self._values.values())
        self._values.clear()
        return values


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Users sign in anew after a restart; a store with a key for each user would keep them."""
    app.state.limiter = Limiter(16)  # one, for the platform counts requests by OAuth client
    app.state.begun = Kept[tuple[ITwinSession, SignInFlow]]()
    app.state.users = Kept[ITwinSession]()
    yield
    for itwin in app.state.users.clear():
        await itwin.aclose()
    for itwin, _ in app.state.begun.clear():
        await itwin.aclose()


app = FastAPI(lifespan=lifespan)


def redirect_uri() -> str:
    """Where the sign-in host sends browsers back to; registered with the client."""
    return os.environ.get("ITWIN_REDIRECT_URI", "http://127.0.0.1:8000/signin-callback")


def set_cookie(response: Response, name: str, value: str) -> None:
    """A cookie that no script and no form of another site can use."""
    secure = redirect_uri().startswith("https:")
    response.set_cookie(name, value, httponly=True, samesite="lax", secure=secure)


@app.get("/login")
async def login(request: Request) -> Response:
    """Begin to sign in."""
    provider = UserSignIn(
        os.environ["ITWIN_WEB_CLIENT_ID"],
        client_secret=os.environ["ITWIN_WEB_CLIENT_SECRET"],
        redirect_uris=[redirect_uri()],
    )
    itwin = ITwinSession.from_env(token_provider=provider, limiter=request.app.state.limiter)
    flow = itwin.begin_sign_in()
    response = RedirectResponse(flow.url)
    set_cookie(response, BEGUN, request.app.state.begun.add((itwin, flow)))
    return response


@app.get("/signin-callback")
async def signin_callback(request: Request) -> Response:
    """Finish with the address that the sign-in host sent the browser to."""
    key = request.cookies.get(BEGUN)
    found = request.app.state.begun.get(key)
    if found is None:
        raise HTTPException(400, "this browser has not begun to sign in: go to /login")
    itwin, flow = found
    try:
        await flow.finish(str(request.url))
    except ValueError as error:  # the address of another sign-in; this one can go on
        raise HTTPException(400, str(error)) from None
    request.app.state.begun.pop(key)
    response = RedirectResponse("/me")
    set_cookie(response, SIGNED_IN, request.app.state.users.add(itwin))  # a new id: none is fixed
    response.delete_cookie(BEGUN)
    return response


async def the_users_session(request: Request) -> ITwinSession:
    """The session of the user who asks."""
    itwin: ITwinSession | None = request.app.state.users.get(request.cookies.get(SIGNED_IN))
    if itwin is None:
        raise HTTPException(401, "nobody is signed in: go to /login")
    return itwin


OfUser = Annotated[ITwinSession, Depends(the_users_session)]


@app.get("/me")
async def me(itwin: OfUser) -> dict[str, Any]:
    """Who is signed in."""
    return plain(await itwin.get_me())


@app.get("/itwins")
async def itwins(itwin: OfUser) -> list[dict[str, Any]]:
    """The iTwins that this user may see."""
    return [plain(found) async for found in itwin.itwins.list_itwins(page_size=100)]


@app.post("/logout")
async def logout(request: Request, itwin: OfUser) -> Response:
    """Revoke the login and forget it."""
    request.app.state.users.pop(request.cookies.get(SIGNED_IN))
    async with itwin:
        await itwin.sign_out()
    response = Response(status_code=204)
    response.delete_cookie(SIGNED_IN)
    return response


@app.get("/passed-on/me")
async def passed_on(request: Request, authorization: Annotated[str, Header()]) -> dict[str, Any]:
    """Who is signed in at a front end that sends its own user's token; nothing is kept of it."""
    try:
        provider = StaticToken(authorization.removeprefix("Bearer "))
    except ValueError:
        raise HTTPException(401, "the Authorization header has no token") from None
    limiter = request.app.state.limiter
    async with ITwinSession.from_env(token_provider=provider, limiter=limiter) as itwin:
        return plain(await itwin.get_me())


@app.exception_handler(ITwinError)
async def failed(_request: Request, error: ITwinError) -> Response:
    """What the platform refused, in one line without a secret."""
    status = 401 if isinstance(error, UnauthorizedError) else 502
    return JSONResponse({"error": str(error)}, status)
