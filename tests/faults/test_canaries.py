"""The watch for secrets that all tests share can see; and warnings show none either."""

import asyncio
import logging
import subprocess
import sys
import textwrap

import pytest
from secrecy import shown
from support import RawServer, answer, session_at

from itwin_async import ITwinError, NotFoundError, TransportError
from itwin_async._core.secrets import SecretStr

TOKEN = "token-of-the-test"


async def test_the_watch_sees_a_token_in_an_error(canaries, monkeypatch):
    monkeypatch.setattr(ITwinError, "__str__", lambda error: f"{error.message} for {TOKEN}")
    async with RawServer(answer(b"{}", status="404 No")) as server, session_at(server) as itwin:
        with pytest.raises(NotFoundError):
            await itwin.packages.get_package("P")
    assert canaries.leaks
    canaries.leaks.clear()


@pytest.mark.slow
async def test_the_watch_sees_a_token_in_a_frame(canaries, monkeypatch):
    """In those of a call, and in those of an error that a test catches from somewhere else."""
    monkeypatch.setattr(SecretStr, "__repr__", str.__repr__)
    async with RawServer(b"no HTTP\r\n\r\n") as server, session_at(server) as itwin:
        with pytest.raises(TransportError):
            await itwin.packages.get_package("P")
        assert [leak for leak in canaries.leaks if "headers shows token-of-the" in leak]
        canaries.leaks.clear()
        with pytest.raises(ValueError, match="path must be"):
            await itwin.request("GET", f"https://other.example/{TOKEN}")
    assert [leak for leak in canaries.leaks if "request path shows token-of-the" in leak]
    canaries.leaks.clear()


@pytest.mark.parametrize("level", [logging.DEBUG, logging.WARNING])
async def test_the_watch_sees_a_token_in_a_record_of_any_level(canaries, level):
    logging.getLogger("itwin_async").log(level, "sent %s", TOKEN)
    assert canaries.leaks == ["a log record ('sent %s') shows token-of-the…"]
    canaries.leaks.clear()


async def test_the_watch_sees_the_tokens_of_the_emulator(canaries, emulator, itwin):
    await itwin.itwins.get_primary_account()
    token = emulator.requests[-1].headers["Authorization"].partition(" ")[2]
    logging.getLogger("itwin_async").debug("%s", token)
    assert canaries.leaks
    canaries.leaks.clear()


def test_an_error_is_shown_with_all_that_led_to_it():
    error = NotFoundError("outer")
    error.__context__ = ValueError("inner")
    assert "inner" in shown(error)


DROPPED = """
import asyncio, gc, logging, sys
from itwin_async import ClientCredentials, ITwinSession, Retry, StaticToken

logging.basicConfig(level=logging.DEBUG)

async def use(itwin, way):
    call = asyncio.create_task(itwin.packages.get_package("P"))
    while not itwin.stats.retries and not call.done():
        await asyncio.sleep(0.01)
    if way != "forgotten task":  # which the end of the loop cancels
        await asyncio.wait([call])  # it fails, and nobody asks how

def main(url, way):
    if way == "credentials":
        token = ClientCredentials("id", "canary-secret", token_url=url + "/canary-path")
    else:
        token = StaticToken("canary-token")
    itwin = ITwinSession(token, base_url=url, retry=Retry(2, base=0.05))
    if way == "kept":
        globals()["kept"] = itwin
    asyncio.run(use(itwin, way), debug=True)
    if way == "never awaited":
        itwin.packages.get_package("P")
    if way == "second loop":
        asyncio.run(use(itwin, "forgotten task"), debug=True)

main(*sys.argv[1:])
gc.collect()
"""


@pytest.mark.parametrize(
    "way", ["dropped", "kept", "forgotten task", "credentials", "never awaited", "second loop"]
)
async def test_no_warning_and_no_report_of_the_loop_shows_a_secret(way):
    """All warnings on, loop and interpreter in debug mode, and a session used badly."""
    secret = b"canary-secret" if way == "credentials" else b"canary-token"
    async with RawServer(answer(b"<p>%s</p>" % secret, status="500 No")) as server:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-X", "dev", "-W", "always", "-c", textwrap.dedent(DROPPED),
            server.url, way, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        try:
            out, _ = await asyncio.wait_for(process.communicate(), 30)
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
    output = out.decode()
    assert process.returncode == 0, output
    assert "is tried again" in output  # something was logged
    assert secret.decode() not in output
