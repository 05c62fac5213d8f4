"""Hosts that cannot be reached or trusted are transport errors that name them."""

import asyncio
import shutil
import socket
import ssl
import subprocess

import aiohttp
import pytest
from fetching import ONCE
from support import PACKAGE, RawServer, answer, session_at, until

from itwin_async import (
    ITwinSession,
    Retry,
    StaticToken,
    TransportError,
)


async def test_a_refused_connection_names_its_host(unused_tcp_port):
    url = f"http://127.0.0.1:{unused_tcp_port}"
    async with ITwinSession(StaticToken("t"), base_url=url, retry=ONCE) as itwin:
        with pytest.raises(TransportError, match=r"127\.0\.0\.1:\d+ refused the") as caught:
            await itwin.packages.get_package("P")
        assert caught.value.reason == "refused"
        assert not caught.value.sent


async def test_a_name_that_does_not_resolve_is_named(monkeypatch):
    async def nobody(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", nobody)
    retry = Retry(attempts=3, base=0)
    async with ITwinSession(
        StaticToken("t"), base_url="https://host.invalid", retry=retry
    ) as itwin:
        with pytest.raises(TransportError, match=r"host\.invalid") as caught:
            await itwin.request("POST", "/x")
        assert caught.value.reason == "dns"
        assert itwin.stats.retries == 2


async def test_a_host_that_cannot_be_reached_is_named(monkeypatch):
    async def no_route(*_: object, **__: object) -> None:
        raise OSError(101, "Network is unreachable")

    monkeypatch.setattr(asyncio.get_running_loop(), "sock_connect", no_route)
    async with ITwinSession(StaticToken("t"), base_url="https://127.0.0.1", retry=ONCE) as itwin:
        with pytest.raises(TransportError, match=r"127\.0\.0\.1") as caught:
            await itwin.packages.get_package("P")
        assert caught.value.reason == "unreachable"


def certificate(folder, name: str) -> ssl.SSLContext:
    key, signed = folder / "key.pem", folder / "cert.pem"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"),
            *("-nodes", "-days", "1", "-keyout", key, "-out", signed),
            *("-subj", "/CN=test", "-addext", f"subjectAltName={name}"),
        ],
        check=True,
        capture_output=True,
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(signed, key)
    return context


def tls_fails(server) -> ITwinSession:
    url = f"https://127.0.0.1:{server.port}"
    return ITwinSession(StaticToken("canary"), base_url=url, retry=Retry(base=0))


async def test_a_handshake_with_what_speaks_no_tls_is_an_error_and_sends_no_token():
    seen = []

    async def plain(connection) -> None:
        seen.append(await connection.reader.read(65_536))
        await connection.send(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    async with RawServer(plain) as server, tls_fails(server) as itwin:
        with pytest.raises(TransportError, match=r"127\.0\.0\.1") as caught:
            await itwin.packages.get_package("P")
        assert caught.value.reason == "tls"
        assert server.opened == 1
    assert b"canary" not in b"".join(seen)


if shutil.which("openssl"):  # elsewhere the handshake above has to do

    async def test_a_self_signed_certificate_is_an_error_and_never_tried_again(tmp_path):
        context = certificate(tmp_path, "IP:127.0.0.1")
        async with RawServer(answer(PACKAGE), ssl=context) as server, tls_fails(server) as itwin:
            with pytest.raises(TransportError, match="certificate") as caught:
                await itwin.packages.get_package("P")
            assert caught.value.reason == "tls"
            assert not server.requests
            assert itwin.stats.requests == 1

    async def test_a_certificate_of_another_host_is_an_error(tmp_path):
        context = certificate(tmp_path, "DNS:other.example")
        trusting = ssl.create_default_context(cafile=tmp_path / "cert.pem")
        connector = aiohttp.TCPConnector(ssl=trusting)
        async with (
            RawServer(answer(PACKAGE), ssl=context) as server,
            aiohttp.ClientSession(connector=connector) as http,
            session_at(server, http=http) as itwin,
        ):
            with pytest.raises(TransportError, match="certificate") as caught:
                await itwin.packages.get_package("P")
            assert caught.value.reason == "tls"
            assert itwin.stats.requests == 1

    async def test_a_trusted_certificate_is_fine_and_a_dropped_session_closes_at_once(tmp_path):
        context = certificate(tmp_path, "IP:127.0.0.1")
        trusting = ssl.create_default_context(cafile=tmp_path / "cert.pem")
        async with RawServer(answer(PACKAGE), ssl=context) as server:
            itwin = session_at(server)
            transport = itwin._executor._transport
            own = transport._start()
            own.connector._ssl = trusting
            await itwin.packages.get_package("P")
            del transport, own, itwin
            await until(lambda: server.open == 0)
