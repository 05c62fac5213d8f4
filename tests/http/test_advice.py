"""Errors advise: which variable to check, what to pass instead, and which id is missing."""

import asyncio
import pickle
import socket

import pytest
from support import RawServer, answer

from itwin_async import (
    ClientCredentials,
    ITwinSession,
    NotFoundError,
    ResponseError,
    Retry,
    StaticToken,
    TransportError,
    UnauthorizedError,
    UserSignIn,
)
from itwin_async._core.urls import split
from itwin_async._http.advice import for_sign_in_host

ONCE = Retry(attempts=1, base=0)
UNKNOWN = "00000000-0000-4000-8000-000000000000"
IMODEL = "5e19bee0-3aea-4355-a9f0-c6df9989ee7d"
WANTS = "it wants a user and a password"
BASE_ADVICE = "is base_url (ITWIN_BASE_URL) right, and a server there?"


def at(base: str, **options) -> ITwinSession:
    return ITwinSession(StaticToken("t"), base_url=base, retry=ONCE, **options)


@pytest.fixture
def no_names(monkeypatch):
    """No name resolves."""

    async def nobody(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(asyncio.BaseEventLoop, "getaddrinfo", nobody)


# Where there is no connection


async def test_a_refused_connection_names_the_port_and_the_variable(unused_tcp_port):
    async with at(f"http://127.0.0.1:{unused_tcp_port}") as itwin:
        with pytest.raises(TransportError) as caught:
            await itwin.imodels.get_imodel(IMODEL)
    assert str(caught.value) == (
        f"127.0.0.1:{unused_tcp_port} refused the connection: {BASE_ADVICE}"
    )
    assert caught.value.reason == "refused"


async def test_a_base_whose_name_does_not_resolve_names_the_variable(no_names):
    async with at("https://itwin.invalid") as itwin:
        with pytest.raises(TransportError) as caught:
            await itwin.imodels.get_imodel(IMODEL)
    assert str(caught.value) == f"the name itwin.invalid cannot be resolved: {BASE_ADVICE}"


async def test_the_platforms_own_base_is_not_doubted(no_names):
    async with at("https://api.bentley.com") as itwin:
        with pytest.raises(TransportError) as caught:
            await itwin.imodels.get_imodel(IMODEL)
    assert str(caught.value) == "the name api.bentley.com cannot be resolved"


async def test_a_server_that_ends_connections_is_no_reason_to_doubt_the_base():
    async def reset(connection):
        connection.reset()

    async with RawServer(reset) as server, at(server.url) as itwin:
        with pytest.raises(TransportError) as caught:
            await itwin.imodels.get_imodel(IMODEL)
    assert "ITWIN_BASE_URL" not in str(caught.value)


async def test_a_token_url_that_refuses_names_its_variable(unused_tcp_port):
    url = f"http://127.0.0.1:{unused_tcp_port}"
    provider = ClientCredentials("id", "secret", token_url=f"{url}/connect/token")
    async with ITwinSession(provider, retry=ONCE) as itwin:
        with pytest.raises(TransportError) as caught:
            await itwin.imodels.get_imodel(IMODEL)
    assert str(caught.value) == (
        f"127.0.0.1:{unused_tcp_port} refused the connection: is the token URL or the authority "
        "(ITWIN_TOKEN_URL, ITWIN_AUTHORITY) right, and a server there?"
    )


async def test_a_token_that_is_refused_says_why_it_may_be(emulator):
    async with ITwinSession(StaticToken("stale"), base_url=emulator.url) as itwin:
        with pytest.raises(UnauthorizedError) as caught:
            await itwin.imodels.get_imodel(IMODEL)
    assert str(caught.value) == (
        "401 Unauthorized: Access denied due to invalid access_token: get another token, this one "
        "has expired, was revoked, or is of another base URL"
    )


@pytest.mark.parametrize(
    ("host", "base", "doubted"),
    [
        ("https://ims.bentley.com", "https://api.bentley.com", False),
        ("https://qa-ims.bentley.com", "https://qa-api.bentley.com", False),
        ("https://qa-ims.bentley.com", "https://api.bentley.com", True),
        ("https://ims.example", "https://api.bentley.com", True),
    ],
)
def test_the_sign_in_host_of_a_base_is_not_doubted(host, base, doubted):
    assert bool(for_sign_in_host(split(host)[0], base)) == doubted


@pytest.mark.parametrize(
    ("status", "message"),
    [
        (
            "407 Proxy Authentication Required",
            f"the proxy {{}} refused a request to 127.0.0.1: it answered 407, {WANTS}",
        ),
        ("502 Bad Gateway", "api.bentley.com cannot be reached: the proxy {} answered 502"),
    ],
)
async def test_a_proxy_that_refuses_names_itself_without_its_password(status, message):
    base = "http://127.0.0.1:9" if status.startswith("407") else "https://api.bentley.com"
    async with RawServer(answer(b"", status=status)) as server:
        address = server.url.removeprefix("http://")
        async with at(base, proxy=f"http://user:canary@{address}") as itwin:
            with pytest.raises(TransportError) as caught:
                await itwin.imodels.get_imodel(IMODEL)
    assert str(caught.value) == message.format(address)


async def test_a_proxy_that_is_down_does_not_lead_to_the_base(unused_tcp_port):
    proxy = f"http://127.0.0.1:{unused_tcp_port}"
    async with at("http://127.0.0.1:9", proxy=proxy) as itwin:
        with pytest.raises(TransportError) as caught:
            await itwin.imodels.get_imodel(IMODEL)
    assert str(caught.value) == f"the proxy 127.0.0.1:{unused_tcp_port} refused the connection"


# What the platform and the sign-in host refuse


async def test_a_client_that_is_not_known_names_both_variables(emulator):
    provider = ClientCredentials("service", "canary", token_url=emulator.token_url)
    async with ITwinSession(provider, base_url=emulator.url, retry=ONCE) as itwin:
        with pytest.raises(UnauthorizedError) as caught:
            await itwin.imodels.get_imodel(IMODEL)
    assert str(caught.value).endswith(
        "check the client id and the secret (ITWIN_CLIENT_ID, ITWIN_CLIENT_SECRET)"
    )
    assert caught.value.code == "invalid_client"
    assert "canary" not in str(caught.value)


async def test_the_application_of_a_person_that_is_not_known_names_its_variable(emulator):
    provider = UserSignIn(emulator.user_client_id, client_secret="of none")
    async with ITwinSession(provider, base_url=emulator.url, retry=ONCE) as itwin:
        flow = itwin.begin_sign_in()
        address = emulator.sign_in_as("owner", flow.url)
        with pytest.raises(UnauthorizedError, match=r"check the client id \(ITWIN_CLIENT_ID\)"):
            await flow.finish(address)


async def test_what_a_sign_in_host_says_is_kept_beside_the_advice():
    refusal = b'{"error":"invalid_client","error_description":"The client is disabled."}'
    async with RawServer(answer(refusal, status="401 X")) as server:
        provider = ClientCredentials("id", "secret", token_url=f"{server.url}/connect/token")
        async with ITwinSession(provider, base_url=server.url, retry=ONCE) as itwin:
            with pytest.raises(UnauthorizedError, match="The client is disabled: check the client"):
                await itwin.imodels.get_imodel(IMODEL)


async def test_a_wrong_path_at_a_sign_in_host_names_the_variables(emulator):
    provider = ClientCredentials("id", "secret", token_url=f"{emulator.url}/connect/tokens")
    async with ITwinSession(provider, base_url=emulator.url, retry=ONCE) as itwin:
        with pytest.raises(ResponseError) as caught:
            await itwin.imodels.get_imodel(IMODEL)
    assert str(caught.value).endswith(
        ": check the token URL or the authority (ITWIN_TOKEN_URL, ITWIN_AUTHORITY)"
    )


async def test_another_refusal_of_a_sign_in_host_advises_nothing(emulator):
    refusal = b'{"error":"invalid_scope","error_description":"No such scope."}'
    async with RawServer(answer(refusal, status="400 X")) as server:
        provider = ClientCredentials("id", "secret", token_url=f"{server.url}/connect/token")
        async with ITwinSession(provider, base_url=server.url, retry=ONCE) as itwin:
            with pytest.raises(UnauthorizedError, match=r"refused: No such scope\.$"):
                await itwin.imodels.get_imodel(IMODEL)


async def test_what_is_missing_is_named_by_its_path_or_by_the_ids_of_its_query(emulator, itwin):
    with pytest.raises(NotFoundError) as caught:
        await itwin.imodels.get_imodel(UNKNOWN)
    assert str(caught.value) == (
        "404 iModelNotFound: Requested iModel is not available. "
        f"/imodels/{UNKNOWN} is missing, or not visible to this caller."
    )
    with pytest.raises(NotFoundError) as caught:
        await itwin.extensions.list_extensions(itwin_id=UNKNOWN).first()
    message = (
        "404 ExtensionsNotFound: Requested Extensions are not available. "
        f"iTwinId {UNKNOWN} is missing, or not visible to this caller."
    )
    assert str(caught.value) == message
    assert str(pickle.loads(pickle.dumps(caught.value))) == message
    assert caught.value.path == "/extensions/"


async def test_only_ids_of_a_query_are_named(emulator):
    query = {"iTwinId": "a", "$filter": "canary", "sig": "canary"}
    async with (
        RawServer(answer(b"{}", status="404 Not Found")) as server,
        at(server.url) as itwin,
    ):
        with pytest.raises(NotFoundError, match="iTwinId a is missing") as caught:
            await itwin.request("GET", "/x", query=query)
        assert "canary" not in str(caught.value)
        with pytest.raises(NotFoundError, match="/x is missing"):
            await itwin.request("GET", "/x", query={"$filter": "canary"})


@pytest.mark.parametrize(
    ("path", "version", "advice"),
    [
        (f"/imodels/{IMODEL}", "v1", "version v1 was asked for, pass version v2"),
        ("/extensions/", "v2", "version v2 was asked for, pass version v1"),
    ],
)
async def test_a_wrong_version_says_which_one_to_pass(itwin, path, version, advice):
    with pytest.raises(ResponseError) as caught:
        await itwin.request("GET", path, version=version)
    assert caught.value.status == 406
    assert str(caught.value).endswith(advice)


async def test_a_version_that_should_be_right_is_looked_up_on_its_page():
    body = b'{"error":{"code":"InvalidHeaderValue","message":"No."}}'
    async with (
        RawServer(answer(body, status="406 Not Acceptable")) as server,
        at(server.url) as itwin,
    ):
        with pytest.raises(ResponseError, match="pass the version that its page names"):
            await itwin.request("GET", "/edfs/x")
