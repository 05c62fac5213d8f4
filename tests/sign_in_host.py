"""A sign-in host that checks what it is asked, a browser that comes back, and a clean home."""

import asyncio
import base64
import hashlib
import itertools
import json
import re
import socket
from pathlib import Path
from urllib.parse import parse_qs, parse_qsl, quote, urlsplit

from support import Connection, Got, RawServer, answer

ME = {"id": "u-1", "displayName": "Ada Lovelace", "email": "ada@example.org"}


def free_port() -> int:
    """A port that nobody listens on, on either address of localhost."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def redirect(port: int | None = None) -> str:
    """A redirect address with a port of its own."""
    return f"http://localhost:{port or free_port()}/signin-callback"


class SignInHost(RawServer):
    """``/connect/token`` with PKCE, rotation and reuse detection, ``/users/me``, and a log of both.

    ``failures`` are answers that come first, in their order; ``delay`` is how long a refresh takes.
    """

    def __init__(self, *, port: int = 0, lifetime: float = 3600, rotates: bool = True) -> None:
        super().__init__(self._serve, port=port)
        self.failures: list[bytes] = []
        self.forms: list[dict[str, str]] = []
        self.codes: dict[str, dict[str, str]] = {}
        self.current: set[str] = set()  # refresh tokens that are good
        self.access: set[str] = set()
        self.lifetime, self.rotates, self.offline = lifetime, rotates, True
        self.delay = 0.0
        self.gate: asyncio.Event | None = None
        self._count = itertools.count(1)

    def authorize(self, url: str, **changed: str) -> str:
        """Where a browser goes from the page of the sign-in host: the person agrees."""
        asked = dict(parse_qsl(urlsplit(url).query))
        code = f"canary-code-{next(self._count)}"
        self.codes[code] = asked
        query = {"code": code, "state": asked["state"]} | changed
        pairs = "&".join(f"{name}={quote(value, safe='')}" for name, value in query.items())
        return f"{asked['redirect_uri']}?{pairs}"

    def refresh_token(self) -> str:
        """A new refresh token that is good."""
        token = f"canary-refresh-{next(self._count)}"
        self.current.add(token)
        return token

    @property
    def refreshes(self) -> int:
        """How many refreshes were asked for."""
        return sum(form.get("grant_type") == "refresh_token" for form in self.forms)

    async def _serve(self, connection: Connection) -> None:
        while True:
            got = await connection.request()
            if got.target == "/users/me":
                await connection.send(self._me(got))
                continue
            form = {name: values[0] for name, values in parse_qs(got.body.decode()).items()}
            self.forms.append(form)
            if self.failures:
                await connection.send(self.failures.pop(0))
                continue
            if got.target == "/connect/revocation":
                self.current.discard(form["token"])
                await connection.send(answer())
                continue
            response = self._token(form)
            await asyncio.sleep(self.delay)
            if self.gate is not None:
                await self.gate.wait()
            await connection.send(response)

    def _me(self, got: Got) -> bytes:
        scheme, _, token = got.headers.get("authorization", "").partition(" ")
        if scheme != "Basic" and token not in self.access:
            return answer(b'{"error":{"code":"Unauthorized","message":"no"}}', status="401 X")
        return answer(json.dumps({"user": ME}).encode())

    def _token(self, form: dict[str, str]) -> bytes:
        if form["grant_type"] == "authorization_code":
            asked = self.codes.pop(form.get("code"), None)
            digest = hashlib.sha256(form.get("code_verifier", "").encode()).digest()
            challenge = base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
            good = (
                asked is not None
                and asked["code_challenge_method"] == "S256"
                and asked["code_challenge"] == challenge
                and asked["redirect_uri"] == form["redirect_uri"]
                and asked["client_id"] == form["client_id"]
            )
        else:
            good = form["refresh_token"] in self.current
        if not good:
            return answer(b'{"error":"invalid_grant","error_description":"no"}', status="400 X")
        access = f"canary-access-{next(self._count)}"
        self.access.add(access)
        fields = {"access_token": access, "expires_in": self.lifetime, "token_type": "Bearer"}
        if self.offline and (self.rotates or form["grant_type"] == "authorization_code"):
            self.current.discard(form.get("refresh_token", ""))
            fields["refresh_token"] = self.refresh_token()
        return answer(json.dumps(fields).encode())


async def visit(address: str, *, method: str = "GET", host: str = "127.0.0.1") -> tuple[int, str]:
    """Status and text of a page on loopback, as a browser would get it."""
    parts = urlsplit(address)
    reader, writer = await asyncio.open_connection(host, parts.port)
    target = f"{parts.path}?{parts.query}" if parts.query else parts.path
    writer.write(f"{method} {target} HTTP/1.1\r\nHost: localhost:{parts.port}\r\n\r\n".encode())
    try:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        size = re.search(r"(?i)content-length: (\d+)", head)
        body = "" if method == "HEAD" else (await reader.readexactly(int(size[1]))).decode()
    finally:
        writer.close()
    return int(head.split()[1]), head + body


class Browser:
    """Comes back from the sign-in host at once; keeps what it was shown."""

    def __init__(self, host: SignInHost, **changed: str) -> None:
        self.host, self.changed = host, changed
        self.urls: list[str] = []
        self.pages: list[tuple[int, str]] = []

    async def __call__(self, url: str) -> None:
        self.urls.append(url)
        self.pages.append(await visit(self.host.authorize(url, **self.changed)))


def can_listen(uri: str) -> bool:
    """Whether a port is free for a program that does not reuse addresses."""
    with socket.socket() as found:
        try:
            found.bind(("127.0.0.1", urlsplit(uri).port))
        except OSError:
            return False
    return True


def mode_of(path: Path) -> int:
    """The permissions of a file."""
    return path.stat().st_mode & 0o777
