"""Through a proxy, and with certificate authorities of one's own."""

import asyncio
import os
import shutil
import ssl
import subprocess
import sys
from pathlib import Path

import aiohttp
import pytest
from http_proxy import BASIC, USER, HttpProxy
from support import PACKAGE, RawServer, answer, session_at

from itwin_async import ClientCredentials, ITwinSession, Retry, StaticToken, TransportError
from itwin_async.emulator import Emulator

ONCE = Retry(attempts=1)


def through(proxy: HttpProxy, server, *, user: str = "", **options) -> ITwinSession:
    at = f"{user}@" if user else ""
    url = f"{proxy.scheme}://{at}{proxy.address}"
    return session_at(server, proxy=url, retry=ONCE, **options)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ssl.SSLContext]:
    """A self-signed certificate of this machine: its file, and a server's context."""
    if not shutil.which("openssl"):
        pytest.skip("makes a certificate with openssl")
    folder = tmp_path_factory.mktemp("certificate")
    key, signed = folder / "key.pem", folder / "cert.pem"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"),
            *("-nodes", "-days", "1", "-keyout", key, "-out", signed),
            *("-subj", "/CN=test", "-addext", "subjectAltName=IP:127.0.0.1"),
        ],
        check=True,
        capture_output=True,
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(signed, key)
    return signed, context


# What goes through


@pytest.mark.parametrize("secure", [False, True])
@pytest.mark.parametrize("user", ["", USER])
async def test_https_goes_through_a_tunnel_that_sees_no_token(certificate, user, secure):
    ca_file, context = certificate
    async with (
        RawServer(answer(PACKAGE), ssl=context) as server,
        HttpProxy(password=bool(user), ssl=context if secure else None) as proxy,
        through(proxy, server, user=user, ca_file=ca_file) as itwin,
    ):
        for _ in range(2):
            assert (await itwin.packages.get_package("P")).name == "Package"
        (head,) = proxy.heads
        assert head.startswith(f"CONNECT 127.0.0.1:{server.port} ")
        assert "token-of-the-test" not in head
        assert all("proxy-authorization" not in got.headers for got in server.requests)
        assert len(server.requests) == 2


@pytest.mark.parametrize("user", ["", USER])
async def test_plain_http_to_loopback_goes_through_it_as_well(user):
    async with Emulator(imodels=1, changesets=2, extensions=3) as emulator:
        credentials = ClientCredentials(
            emulator.credentials.client_id,
            emulator.credentials.client_secret,
            token_url=emulator.token_url,
        )
        async with (
            HttpProxy(password=bool(user)) as proxy,
            ITwinSession(
                credentials,
                base_url=emulator.url,
                proxy=f"http://{user}@{proxy.address}" if user else proxy.url,
                retry=ONCE,
            ) as itwin,
        ):
            assert len([item async for item in itwin.extensions.list_extensions()]) == 3
            assert proxy.heads[0].startswith(f"POST {emulator.token_url} ")
            assert proxy.heads[-1].startswith(f"GET {emulator.url}/extensions")


async def test_no_proxy_of_the_environment_is_used(monkeypatch):
    async with RawServer(answer(PACKAGE)) as server, HttpProxy() as proxy:
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "HTTPS_PROXY"):
            monkeypatch.setenv(name, proxy.url)
        async with session_at(server) as itwin:
            await itwin.packages.get_package("P")
        assert not proxy.heads


# What goes wrong


# Without a tunnel, another status is an answer like any other.
@pytest.mark.parametrize(
    ("secure", "status"), [(True, 407), (True, 403), (True, 502), (False, 407)]
)
async def test_a_proxy_that_refuses_is_named_and_its_password_never(certificate, secure, status):
    ca_file, context = certificate
    async with (
        RawServer(answer(PACKAGE), ssl=context if secure else None) as server,
        HttpProxy(status=status) as proxy,
        through(proxy, server, user=USER, ca_file=ca_file) as itwin,
    ):
        with pytest.raises(TransportError, match="proxy") as caught:
            await itwin.packages.get_package("P")
        assert str(status) in str(caught.value)
        assert not server.requests


@pytest.mark.parametrize(
    ("address", "reason"), [("127.0.0.1:{}", "refused"), ("nowhere.invalid:80", "dns")]
)
async def test_a_proxy_that_is_not_there_is_named(address, reason):
    async with RawServer(answer(PACKAGE)) as gone:
        address = address.format(gone.port)
    async with ITwinSession(
        StaticToken("t"), proxy=f"http://{USER}@{address}", retry=ONCE
    ) as itwin:
        with pytest.raises(TransportError, match="proxy") as caught:
            await itwin.packages.get_package("P")
    assert caught.value.reason == reason
    assert address in str(caught.value)


async def test_the_error_of_an_unknown_authority_says_how_to_trust_it(certificate):
    _, context = certificate
    async with (
        RawServer(answer(PACKAGE), ssl=context) as server,
        session_at(server, retry=ONCE) as itwin,
    ):
        with pytest.raises(TransportError, match=r"\(.* SSL_CERT_FILE or ca_file\)$") as caught:
            await itwin.packages.get_package("P")
        assert caught.value.reason == "tls"


async def test_a_proxy_is_not_blamed_for_the_certificate_behind_it(certificate):
    _, context = certificate
    async with (
        RawServer(answer(PACKAGE), ssl=context) as server,
        HttpProxy() as proxy,
        through(proxy, server, user=USER) as itwin,
    ):
        with pytest.raises(TransportError, match="no secure connection to 127") as caught:
            await itwin.packages.get_package("P")
        assert caught.value.reason == "tls"
        assert "proxy" not in str(caught.value)


async def test_https_to_a_server_of_http_asks_for_its_address():
    async with Emulator() as emulator:
        url = emulator.url.replace("http:", "https:")
        itwin = ITwinSession(StaticToken("t"), base_url=url, retry=ONCE)
        with pytest.raises(TransportError, match=r"\(does this server speak http, and not ht.*\)$"):
            await itwin.packages.get_package("P")
        await itwin.aclose()


async def test_ssl_cert_file_is_obeyed(certificate):
    """In a process of its own: aiohttp makes its context when it is imported."""
    ca_file, context = certificate
    code = (
        "import asyncio, sys\nfrom itwin_async import ITwinSession, StaticToken\n"
        "async def main():\n"
        "    async with ITwinSession(StaticToken('t'), base_url=sys.argv[1]) as itwin:\n"
        "        print((await itwin.packages.get_package('P')).name)\n"
        "asyncio.run(main())"
    )
    async with RawServer(answer(PACKAGE), ssl=context) as server:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", code, server.url,
            env={**os.environ, "SSL_CERT_FILE": str(ca_file)}, stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        out, _ = await asyncio.wait_for(process.communicate(), 60)
    assert out == b"Package\n"


@pytest.mark.parametrize(
    "proxy",
    [
        "", "proxy:8080", "socks5://proxy:1080", "ftp://proxy", "http://", "http://proxy/path",
        "http://proxy?a=b", "http://me:canary-1@", "http://me:canary-1@proxy/path",
        "http://me:canary-1/2@proxy", "http://me:canary-1#2@proxy:80", "http://me:canary-1 2@proxy",
        "me:canary-1@proxy:80", "http://me:canary-1@proxy:99999", "http://me:canary-1@a@b/c",
    ],
)  # fmt: skip
def test_what_is_no_proxy_is_refused_without_its_password(proxy):
    with pytest.raises(ValueError, match=r"^proxy must be an http or https URL such as ") as caught:
        ITwinSession(StaticToken("t"), proxy=proxy)
    assert "canary" not in str(caught.value)


def test_types_are_checked():
    with pytest.raises(TypeError, match="proxy must be a str, not int"):
        ITwinSession(StaticToken("t"), proxy=8080)
    with pytest.raises(TypeError, match="ca_file must be a path, not int"):
        ITwinSession(StaticToken("t"), ca_file=3)
    with pytest.raises(ValueError, match="ca_file must be a path, without a null character"):
        ITwinSession(StaticToken("t"), ca_file="a\0.pem")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot be read: No such file or directory"),
        (b"", "holds no certificates in PEM format"),
        (b"-----BEGIN CERTIFICATE-----\nnonsense\n", "holds no certificates in PEM format"),
    ],
)
def test_what_is_no_file_of_certificates_is_named(content, message, tmp_path):
    ca_file = tmp_path / "authorities.pem"
    if content is not None:
        ca_file.write_bytes(content)
    with pytest.raises(ValueError, match=r"^ca_file ") as caught:
        ITwinSession(StaticToken("t"), ca_file=ca_file)
    assert str(caught.value) == f"ca_file {ca_file} {message}"


@pytest.mark.parametrize("options", [{"proxy": "http://proxy:8080"}, {"ca_file": __file__}])
async def test_a_pool_of_ones_own_brings_its_own(options):
    async with aiohttp.ClientSession() as http:
        with pytest.raises(ValueError, match="proxy and ca_file"):
            ITwinSession(StaticToken("t"), http=http, **options)


@pytest.mark.parametrize("scheme", ["http", "https", "HTTP"])
def test_a_session_shows_nothing_of_its_proxy(scheme):
    itwin = ITwinSession(StaticToken("t"), proxy=f"{scheme}://{USER}@proxy:8080/")
    assert "proxy" not in repr(itwin)
    transport = itwin._executor._transport
    assert "canary" not in repr(vars(transport))
    assert str(transport._proxy.authorization) == BASIC
    assert transport._proxy.url == f"{scheme.lower()}://proxy:8080"
