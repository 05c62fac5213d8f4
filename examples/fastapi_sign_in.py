"""A web backend whose users sign in with their own accounts; each request has its user's token.

A user has a session on the server, and in the browser a cookie that scripts cannot read and that
holds nothing but a random id. A caller that already has a token of its own may send that instead.
All sessions share one limiter and one pool of connections, and none of them a token.

    python -m itwin_async.emulator --port 8080 --export  # elsewhere; paste what it prints
    uvicorn --app-dir examples fastapi_sign_in:app     # then open http://localhost:8000

On the platform: a client of the type Web App in ``ITWIN_WEB_CLIENT_ID`` and
``ITWIN_WEB_CLIENT_SECRET``, and its https address in ``ITWIN_WEB_REDIRECT_URI``.
"""

import logging
import os
import secrets
import time
from collections import OrderedDict
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from html import escape
from typing import Annotated, Final, Generic, Literal, TypeAlias, TypedDict, TypeVar
from urllib.parse import urlsplit

import aiohttp
import anyio
from fastapi import Depends, FastAPI, HTTPException, Request, Response
from fastapi.responses import HTMLResponse, JSONResponse, RedirectResponse

from itwin_async import (
    ITwinError,
    ITwinSession,
    Limiter,
    Retry,
    SignInFlow,
    StaticToken,
    TokenProvider,
    UnauthorizedError,
    UserSignIn,
)

T = TypeVar("T")
RETRY: Final = Retry(3, max_throttled=10)  # fewer than by default: a user is waiting
LOCAL: Final = "http://localhost:8000/signin-callback"
MOST: Final = 1_000  # users at once, and sign-ins that were begun
IDLE: Final = 3_600.0  # seconds after which a user who does nothing is forgotten
SIGN_IN_LASTS: Final = 600.0  # seconds that a person may take on the pages of the sign-in host
SWEEP: Final = 60.0  # seconds between two looks for what is too old
_logger = logging.getLogger(__name__)


class Kept(Generic[T]):
    """Values by random ids, those used last; forgets the rest, and what was not used for long.

    A session that is forgotten closes when its last call is over.
    """

    def __init__(self, most: int, seconds: float) -> None:
        self._most = most
        self._seconds = seconds
        self._values: OrderedDict[str, tuple[float, T]] = OrderedDict()  # the oldest use first

    def __len__(self) -> int:
        return len(self._values)

    def keep(self, value: T) -> str:
        """Keep a value, and give the id to find it by."""
        id = secrets.token_urlsafe(32)
        self._values[id] = (time.monotonic(), value)
        self.forget_old()
        return id

    def find(self, id: str | None) -> T | None:
        """The value of an id, which is in use again."""
        self.forget_old()
        if id is None or id not in self._values:
            return None
        value = self._values.pop(id)[1]
        self._values[id] = (time.monotonic(), value)
        return value

    def take(self, id: str | None) -> T | None:
        """The value of an id, which is forgotten."""
        value = self.find(id)
        if value is not None and id is not None:
            del self._values[id]
        return value

    def forget_old(self) -> None:
        """Forget what is too many or too old."""
        now = time.monotonic()
        while self._values:
            used, _ = next(iter(self._values.values()))
            if len(self._values) <= self._most and now - used < self._seconds:
                break
            self._values.popitem(last=False)


@dataclass(frozen=True)
class SigningIn:
    """A sign-in that a browser has begun."""

    itwin: ITwinSession
    flow: SignInFlow


class Backend:
    """What all requests share."""

    def __init__(self, http: aiohttp.ClientSession) -> None:
        self._http = http
        self._limiter = Limiter(16)  # the platform counts the requests of one OAuth client
        self._client_id = os.environ["ITWIN_WEB_CLIENT_ID"]
        self._client_secret = os.environ["ITWIN_WEB_CLIENT_SECRET"]
        self._redirect_uri = os.environ.get("ITWIN_WEB_REDIRECT_URI", LOCAL)
        self.secure = urlsplit(self._redirect_uri).scheme == "https"
        self.users: Kept[ITwinSession] = Kept(MOST, IDLE)
        self.signing_in: Kept[SigningIn] = Kept(MOST, SIGN_IN_LASTS)

    def __repr__(self) -> str:
        return f"<Backend with {len(self.users)} users>"  # and never the secret

    def session(self, token_provider: TokenProvider) -> ITwinSession:
        """A session with a token of its own, and the limiter and the connections of all."""
        return ITwinSession.from_env(
            token_provider=token_provider,
            limiter=self._limiter,
            http=self._http,
            retry=RETRY,
            timeout=20,
        )

    def begin(self) -> SigningIn:
        """A sign-in of a new user."""
        itwin = self.session(
            UserSignIn(
                self._client_id,
                client_secret=self._client_secret,
                redirect_uris=[self._redirect_uri],
                authority=os.environ.get("ITWIN_AUTHORITY"),
            )
        )
        return SigningIn(itwin, itwin.begin_sign_in())

    def cookie(self, name: str) -> str:
        """The name of a cookie; with this prefix no other host can set it."""
        return f"__Host-{name}" if self.secure else name

    def set_cookie(self, response: Response, name: str, value: str) -> None:
        """Give the browser an id: until it is closed, for this host alone, not for scripts."""
        response.set_cookie(
            self.cookie(name), value, path="/", secure=self.secure, httponly=True, samesite="lax"
        )

    def delete_cookie(self, response: Response, name: str) -> None:
        """Take an id from the browser."""
        response.delete_cookie(
            self.cookie(name), path="/", secure=self.secure, httponly=True, samesite="lax"
        )


class State(TypedDict):
    """What every request finds in ``request.state``."""

    backend: Backend


class HideQueries(logging.Filter):
    """Leaves queries out of the server's access log: that of the callback has a code in it."""

    def filter(self, record: logging.LogRecord) -> Literal[True]:
        """Shorten the path, the third of uvicorn's arguments."""
        args = record.args
        if isinstance(args, tuple) and len(args) == 5:
            record.args = (*args[:2], str(args[2]).partition("?")[0], *args[3:])
        return True


@asynccontextmanager
async def lifespan(_app: FastAPI) -> AsyncGenerator[State]:
    """Open the connections with the app, in its event loop, and close them with the app."""
    hide_queries = HideQueries()
    log = logging.getLogger("uvicorn.access")
    log.addFilter(hide_queries)
    # Without cookies: what the platform sets for one user must not be sent for another.
    connector, jar = aiohttp.TCPConnector(limit=0), aiohttp.DummyCookieJar()
    try:
        async with (
            aiohttp.ClientSession(connector=connector, cookie_jar=jar) as http,
            anyio.create_task_group() as tasks,
        ):
            backend = Backend(http)
            tasks.start_soon(sweep, backend)
            yield {"backend": backend}
            tasks.cancel_scope.cancel()
    finally:
        log.removeFilter(hide_queries)


async def sweep(backend: Backend) -> None:
    """Forget old users and sign-ins also while no request comes."""
    while True:
        await anyio.sleep(SWEEP)
        backend.users.forget_old()
        backend.signing_in.forget_old()


app = FastAPI(title="Your iTwins", lifespan=lifespan)


async def the_backend(request: Request) -> Backend:
    """What all requests share."""
    backend: Backend = request.state.backend
    return backend


Shared: TypeAlias = Annotated[Backend, Depends(the_backend)]


async def the_user(request: Request, backend: Shared) -> ITwinSession | None:
    """The session of who has signed in with this browser."""
    return backend.users.find(request.cookies.get(backend.cookie("user")))


MaybeUser: TypeAlias = Annotated[ITwinSession | None, Depends(the_user)]


async def the_session(
    request: Request, backend: Shared, user: MaybeUser
) -> AsyncGenerator[ITwinSession]:
    """A session with the token of whoever sent this request."""
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        try:
            provider = StaticToken(token.strip())
        except ValueError:
            raise HTTPException(401, "the token is unusable") from None
        async with backend.session(provider) as itwin:
            yield itwin
    elif user is not None:
        yield user
    else:
        raise HTTPException(401, "sign in first", {"WWW-Authenticate": "Bearer"})


Session: TypeAlias = Annotated[ITwinSession, Depends(the_session)]


@app.get("/login")
async def login(backend: Shared) -> Response:
    """Send the browser to the sign-in host, and remember which browser that was."""
    signing_in = backend.begin()
    response = RedirectResponse(signing_in.flow.url, 303)
    backend.set_cookie(response, "signing-in", backend.signing_in.keep(signing_in))
    return response


@app.get("/signin-callback")
async def signin_callback(request: Request, backend: Shared) -> Response:
    """Sign in the user whom the sign-in host sent back, if it was this browser that left."""
    id = request.cookies.get(backend.cookie("signing-in"))
    signing_in = backend.signing_in.find(id)
    if signing_in is None:
        return page("Not signed in", "This browser has begun no sign-in.", status=400)
    try:
        await signing_in.flow.finish(str(request.url))
    except ValueError:  # the state is another browser's: this one can still finish its own
        return page("Not signed in", "This is not the sign-in that was begun here.", status=400)
    except UnauthorizedError as error:
        backend.signing_in.take(id)
        refused = page("Not signed in", str(error), status=403)
        backend.delete_cookie(refused, "signing-in")
        return refused
    backend.signing_in.take(id)
    user_id = backend.users.keep(signing_in.itwin)  # new, so that nobody has it from before
    await leave(backend, request)
    response = RedirectResponse("/", 303)
    backend.delete_cookie(response, "signing-in")
    backend.set_cookie(response, "user", user_id)
    return response


@app.post("/sign-out")
async def sign_out(request: Request, backend: Shared) -> Response:
    """Forget the user, here and at the sign-in host."""
    if request.headers.get("Sec-Fetch-Site", "same-origin") != "same-origin":
        raise HTTPException(403, "only this app's own pages may sign out")
    await leave(backend, request)
    response = RedirectResponse("/", 303)
    backend.delete_cookie(response, "user")
    return response


async def leave(backend: Backend, request: Request) -> None:
    """Revoke the refresh token of who was signed in with this browser, and close the session."""
    user = backend.users.take(request.cookies.get(backend.cookie("user")))
    if user is None:
        return
    async with user:
        try:
            await user.sign_out()
        except ITwinError as error:
            _logger.warning("a refresh token was forgotten, but not revoked: %s", error)


@app.get("/")
async def home(request: Request, backend: Shared, user: MaybeUser) -> Response:
    """Who is signed in, and their iTwins."""
    if user is None:
        return page("Your iTwins", '<a href="/login">Sign in</a>', is_html=True)
    try:
        me = await user.get_me()
        found = await anext(user.itwins.list_itwins(page_size=20).pages())
    except UnauthorizedError:  # the sign-in has ended
        await leave(backend, request)
        return page("Your iTwins", '<a href="/login">Sign in again</a>', is_html=True)
    names = "".join(f"<li>{escape(item.display_name or item.id)}</li>" for item in found.items)
    button = '<form method="post" action="/sign-out"><button>Sign out</button></form>'
    name = escape(me.display_name or me.email or me.id)
    text = f"<p>Signed in as <b>{name}</b></p>{button}<ul>{names}</ul>"
    return page("Your iTwins", text, is_html=True)


@app.get("/api/me")
async def me(itwin: Session) -> dict[str, str | None]:
    """Who the caller is."""
    found = await itwin.get_me()
    return {"id": found.id, "name": found.display_name, "email": found.email}


@app.get("/api/itwins")
async def itwins(itwin: Session) -> list[str]:
    """The names of the iTwins that the caller may see."""
    return [item.display_name or item.id async for item in itwin.itwins.list_itwins()]


@app.exception_handler(ITwinError)
async def problem(_request: Request, error: ITwinError) -> JSONResponse:
    """Respond 401 where the caller's own token is refused, and 502 for the rest."""
    status = 401 if isinstance(error, UnauthorizedError) else 502
    return JSONResponse({"title": type(error).__name__, "detail": str(error)}, status)


def page(title: str, text: str, *, status: int = 200, is_html: bool = False) -> HTMLResponse:
    """A page without scripts, which nothing may keep, frame or learn an address from."""
    body = text if is_html else f'<p>{escape(text)}</p><a href="/">Back</a>'
    headers = {
        "Cache-Control": "no-store",
        "Content-Security-Policy": "default-src 'none'; form-action 'self'; frame-ancestors 'none'",
        "Referrer-Policy": "no-referrer",
    }
    title = escape(title)
    html = f'<!doctype html><html lang="en"><title>{title}</title><h1>{title}</h1>{body}</html>'
    return HTMLResponse(html, status, headers)
