import asyncio
import copy
import dataclasses
import errno
import io
import json
import os
import pickle
import re
import shlex
import signal
import socket
import sys
import time

import aiohttp
import pytest
from support import cancelled_at_each_await, until
from yarl import URL

from itwin_async.auth import ClientCredentials
from itwin_async.emulator import ROUTES, Cut, Delay, Emulator, Slow
from itwin_async.emulator._identity.clients import (
    SERVICE_CLIENT_ID,
    SERVICE_CLIENT_SECRET,
    USER_CLIENT_ID,
    WEB_CLIENT_ID,
    WEB_CLIENT_SECRET,
)
from itwin_async.emulator._routes import TABLE, find_route

SUN_CITY = "/imodels/5e19bee0-3aea-4355-a9f0-c6df9989ee7d"
DATA = f"{SUN_CITY}/changesets/extendeddata"
SENSORS = "41d94bd4-46b8-48e9-a29a-7c7704a7e662"


def test_every_route_is_found_and_served():
    assert len(ROUTES) >= 37
    for route in TABLE:
        path = route.path.rstrip("/")
        for item in (path, f"{path}/"):
            found = find_route(route.method, item)
            assert found is not None
            assert found[0] is route
        assert route.handler.__name__ == route.name


@pytest.mark.parametrize(
    "path",
    ["/", "//", "/iTwins/x/account", "/imodels//changesets", "/extensions/a%2Fb/versions/1/2"],
)
async def test_what_is_no_operation_is_404(web, emulator, refused, path):
    refused(await web(emulator, path), 404, "NotFound")
    assert emulator.requests[-1].operation is None


async def test_an_id_with_an_encoded_slash_stays_one_id(web, emulator, refused):
    refused(await web(emulator, "/imodels/a%2Fchangesets"), 404, "iModelNotFound")
    assert emulator.requests[-1].operation == "get_imodel"


async def test_records(web, emulator):
    body = {"name": "", "iTwinId": "é"}
    before = time.monotonic()
    await web(emulator, "/extensions/?a=%24&$top=2", "POST", json=body, headers={"X-Own": "1"})
    await web(emulator, SUN_CITY)
    first, second = emulator.requests
    assert (first.operation, first.method, first.status) == ("create_extension", "POST", 422)
    assert (first.path, first.target) == ("/extensions/", "/extensions/?a=%24&$top=2")
    assert dict(first.query) == {"a": "$", "$top": "2"}
    assert first.headers["x-own"] == "1"
    assert b'"name"' in first.body
    assert before <= first.started <= first.ended <= second.started <= second.ended
    assert emulator.count("get_imodel") == 1
    with pytest.raises(dataclasses.FrozenInstanceError):
        first.status = 200
    emulator.requests.clear()
    await web(emulator, SUN_CITY)
    assert len(emulator.requests) == 1


async def test_links_are_built_from_the_host_header(web, emulator):
    _, body, _ = await web(emulator, f"{DATA}?$top=1", headers={"Host": "proxy.example:81"})
    assert body["_links"]["next"]["href"].startswith("http://proxy.example:81/imodels/")


async def test_a_large_body_is_refused(web, emulator, refused):
    response = await web(
        emulator, f"{SUN_CITY}/changesets/1/extendeddata", "POST", data=io.BytesIO(b" " * 2**21)
    )
    refused(response, 413, "RequestTooLarge")


async def test_before_and_after():
    emulator = Emulator()
    with pytest.raises(RuntimeError, match="before it is started"):
        _ = emulator.url
    await emulator.aclose()
    await emulator.start()
    with pytest.raises(RuntimeError, match="running already"):
        await emulator.start()
    assert isinstance(emulator.credentials, ClientCredentials)
    url = emulator.url
    await emulator.aclose()
    await emulator.aclose()
    async with aiohttp.ClientSession() as session:
        with pytest.raises(aiohttp.ClientConnectorError):
            await session.get(url)


async def test_closing_in_the_middle_of_everything_is_quick():
    before = asyncio.all_tasks()
    emulator = Emulator(payload_bytes=204_800)
    await emulator.start()
    emulator.faults.add("get_imodel", Delay(60), times=None)
    emulator.faults.add("list_itwins", Slow(1, chunk=1))
    bearer = {"Authorization": f"Bearer {emulator.issue_token()}"}
    async with aiohttp.ClientSession(headers=bearer) as session:
        begun = []

        async def get(path):
            async with session.get(URL(emulator.url + path, encoded=True)) as response:
                begun.append(path)
                if path.startswith(DATA):
                    await asyncio.sleep(60)
                return await response.read()

        paths = (SUN_CITY, SUN_CITY, "/itwins/", f"{DATA}?$top=100")
        tasks = [asyncio.create_task(get(path)) for path in paths]
        async with session.get(f"{emulator.url}/itwins/myprimaryaccount") as idle:
            await idle.read()
        await until(lambda: len(emulator.requests) == 5 and len(begun) == 2)
        async with asyncio.timeout(30):  # half of what there would be to wait for
            await emulator.aclose()
        assert asyncio.all_tasks() - before <= set(tasks)
        assert all(record.ended for record in emulator.requests)
        tasks[-1].cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert all(
            isinstance(result, (aiohttp.ClientError, asyncio.CancelledError)) for result in results
        )


@pytest.mark.parametrize("when", ["waiting", "ready"])
async def test_a_block_that_is_cancelled_at_any_await_leaves_nothing(cancel_kind, when):
    async def serve() -> None:
        nonlocal emulator
        emulator = Emulator(imodels=1, changesets=1)
        with socket.socket() as client:
            async with emulator:
                emulator.faults.add("get_imodel", Delay(60))
                client.connect(("127.0.0.1", URL(emulator.url).port))
                client.sendall(f"GET {SUN_CITY} HTTP/1.1\r\nHost: me\r\n\r\n".encode())
                await until(lambda: emulator.requests)

    async def check(number: int) -> None:
        assert "not running" in repr(emulator), number
        assert all(record.ended for record in emulator.requests)
        assert asyncio.all_tasks() == {asyncio.current_task()}

    emulator = Emulator()
    awaits, _ = await cancelled_at_each_await(cancel_kind, serve, check, when=when)
    assert awaits > 3


@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM])
async def test_run_alone(ending):
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-W", "error", "-m", "itwin_async.emulator", "--port", "0", "--changesets", "3"),
        *("--per-minute", "2", "--token-lifetime", "60", "--refresh-token-lifetime", "60"),
        *("--user", "ada", "--user", "ray:reader", "--redirect-uri", "https://app.example/in"),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    lines = [(await process.stdout.readline()).decode().strip() for _ in range(8)]
    found = dict(line.split("=", 1) for line in lines)
    assert list(found) == [
        "ITWIN_BASE_URL",
        "ITWIN_TOKEN_URL",
        "ITWIN_CLIENT_ID",
        "ITWIN_CLIENT_SECRET",
        "ITWIN_AUTHORITY",
        "ITWIN_USER_CLIENT_ID",
        "ITWIN_WEB_CLIENT_ID",
        "ITWIN_WEB_CLIENT_SECRET",
    ]
    async with aiohttp.ClientSession() as session:
        form = {
            "grant_type": "client_credentials",
            "client_id": found["ITWIN_CLIENT_ID"],
            "client_secret": found["ITWIN_CLIENT_SECRET"],
        }
        async with session.post(found["ITWIN_TOKEN_URL"], data=form) as response:
            token = await response.json()
        assert token["expires_in"] == 60
        query = {
            "client_id": found["ITWIN_USER_CLIENT_ID"],
            "redirect_uri": "https://app.example/in",
            "response_type": "code",
            "scope": "itwin-platform",
            "code_challenge": "c" * 43,
            "code_challenge_method": "S256",
        }
        authorize = f"{found['ITWIN_AUTHORITY']}/connect/authorize"
        async with session.get(authorize, params=query) as page:
            names = re.findall(r'name="user" value="(\w+)"', await page.text())
            assert names == ["ada", "ray"]
        bearer = {"Authorization": f"Bearer {token['access_token']}"}
        counts = []
        for _ in range(3):
            async with session.get(found["ITWIN_BASE_URL"] + DATA, headers=bearer) as response:
                counts.append(len((await response.json()).get("extendedData", ())))
        assert counts == [3, 3, 0]
        process.send_signal(ending)
        rest = await asyncio.wait_for(process.communicate(), 60)
    assert (process.returncode, *rest) == (0, b"", b"")


async def test_its_environment_is_what_a_session_and_another_process_read(monkeypatch):
    with pytest.raises(RuntimeError, match="no address before it is started"):
        _ = Emulator().environment
    async with Emulator(imodels=1, changesets=1) as emulator:
        for name, value in emulator.environment.items():
            monkeypatch.setenv(name, value)
        assert ClientCredentials.from_env() == emulator.credentials
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", "import os, json; print(json.dumps(dict(os.environ)))"),
            env=emulator.environment,
            stdout=asyncio.subprocess.PIPE,
        )
        out, _ = await process.communicate()
        assert emulator.environment.items() <= json.loads(out).items()


async def test_its_variables_for_a_shell():
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "itwin_async.emulator", "--export"), stdout=asyncio.subprocess.PIPE
    )
    first = await process.stdout.readline()
    process.terminate()
    rest, _ = await asyncio.wait_for(process.communicate(), 60)
    lines = (first + rest).decode()
    assert all(line.startswith("export ITWIN_") for line in lines.splitlines())
    shell = await asyncio.create_subprocess_exec(
        *("sh", "-c", f'{lines}\nsh -c "echo \\$ITWIN_CLIENT_SECRET"'),
        stdout=asyncio.subprocess.PIPE,
    )
    out, _ = await shell.communicate()
    assert out.decode().strip() == SERVICE_CLIENT_SECRET


async def run_alone(*arguments):
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-W", "error", "-m", "itwin_async.emulator", *arguments),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, text = await asyncio.wait_for(process.communicate(), 60)
    assert out == b""
    return process.returncode, text.decode().removeprefix("python -m itwin_async.emulator: ")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("--itwins", "1"), "itwins must be at least 3, not 1\n"),
        (("--port", "99999"), "port must be from 0 to 65535, not 99999\n"),
        (("--token-lifetime", "0"), "token_lifetime must be above 0, not 0.0\n"),
        (("--push-every", "0"), "push_every must be above 0, not 0.0\n"),
        (("--webhook-attempts", "0"), "webhook_attempts must be at least 1, not 0\n"),
        (("--host", ""), "host must not be empty\n"),
        (
            ("--user", "ada:admin"),
            "the rights of a user must be owner, reader, viewer or none, not 'admin'\n",
        ),
        (
            ("--redirect-uri", "here"),
            "a redirect URI must be an http or https address without a fragment, not 'here'\n",
        ),
    ],
)
async def test_wrong_arguments_alone(arguments, sentence):
    assert await run_alone(*arguments) == (2, sentence)


async def test_a_port_in_use_is_one_sentence(emulator):
    port = str(URL(emulator.url).port)
    sentence = f"cannot listen on 127.0.0.1 port {port}: {os.strerror(errno.EADDRINUSE)}\n"
    assert await run_alone("--port", port) == (1, sentence)


@pytest.mark.parametrize(
    ("redirected", "sentence"),
    [
        (">/dev/full", "standard output cannot be written: No space left on device"),
        (">&-", "standard output is closed: send it to a file, or to /dev/null"),
    ],
)
async def test_variables_that_nobody_gets_are_one_sentence(redirected, sentence):
    process = await asyncio.create_subprocess_shell(
        f"{shlex.quote(sys.executable)} -m itwin_async.emulator {redirected}",
        stderr=asyncio.subprocess.PIPE,
    )
    _, err = await asyncio.wait_for(process.communicate(), 60)
    assert (process.returncode, err.decode()) == (
        1,
        f"python -m itwin_async.emulator: {sentence}\n",
    )


async def test_a_host_that_is_no_name_is_one_sentence():
    sentence = "cannot listen on a..b port 0: the name of the host is no name\n"
    assert await run_alone("--host", "a..b") == (1, sentence)


@pytest.mark.parametrize(
    ("host", "shown"), [("0.0.0.0", "127.0.0.1"), ("::", "::1"), ("127.0.0.1", "127.0.0.1")]
)
async def test_the_address_of_all_addresses_is_shown_as_loopback(web, host, shown):
    if ":" in host:
        try:
            socket.create_server(("::1", 0), family=socket.AF_INET6).close()
        except OSError:
            pytest.skip("no IPv6 here")
    async with Emulator(host=host) as emulator:
        assert URL(emulator.url).host == shown
        assert (await web(emulator, SUN_CITY))[0] == 200


def test_the_secret_can_be_pasted():
    for item in (SERVICE_CLIENT_ID, SERVICE_CLIENT_SECRET, WEB_CLIENT_ID, WEB_CLIENT_SECRET):
        assert re.fullmatch(r"[A-Za-z0-9._-]+", item)
    assert re.fullmatch(r"[A-Za-z0-9._-]+", USER_CLIENT_ID)


@pytest.mark.parametrize("path", [SUN_CITY, f"{DATA}?$top=3", "/nowhere", "/itwins/x/account"])
async def test_head_is_get_without_its_body(web, emulator, path):
    status, body, headers = await web(emulator, path)
    assert body
    for _ in range(2):  # the second on the same connection
        got, nothing, same = await web(emulator, path, "HEAD")
        assert (got, nothing) == (status, b"")
        assert same["Content-Length"] == headers["Content-Length"]
        assert same["Content-Type"] == headers["Content-Type"]
    assert [record.method for record in emulator.requests] == ["GET", "HEAD", "HEAD"]
    assert len({record.operation for record in emulator.requests}) == 1


async def test_head_of_a_large_page(web):
    async with Emulator(payload_bytes=204_800) as emulator:
        for fault in (Delay(0), Slow(1, chunk=1), Delay(0), Cut(5)):
            emulator.faults.add("list_extended_data", fault)
            status, nothing, headers = await web(emulator, DATA, "HEAD")
            assert (status, nothing) == (200, b"")
            assert int(headers["Content-Length"]) > 26_000_000


async def test_repr_is_short():
    emulator = Emulator()
    assert repr(emulator) == "<Emulator not running>"
    assert repr(emulator.faults) == "<Faults: 0 planned>"
    async with emulator:
        assert repr(emulator) == f"<Emulator {emulator.url}>"
        emulator.faults.add("token", Delay(0))
        assert repr(emulator.faults) == "<Faults: 1 planned>"
    assert repr(emulator) == "<Emulator not running>"


async def test_records_pickle(web, emulator):
    new = {"name": "", "iTwinId": ""}
    await web(emulator, "/extensions/?a=1&a=2", "POST", json=new, headers={"X-Own": "1"})
    record = emulator.requests[0]
    for copied in (pickle.loads(pickle.dumps(record)), copy.deepcopy(record)):
        assert copied == record
        assert repr(copied) == repr(record)
        assert copied.headers["x-own"] == "1"
        assert copied.query.getall("a") == ["1", "2"]


@pytest.mark.parametrize(
    ("wrong", "kind", "sentence"),
    [
        ({"host": ""}, ValueError, "host must not be empty"),
        ({"host": None}, TypeError, "host must be a str, not None"),
        ({"port": 65_536}, ValueError, "port must be from 0 to 65535, not 65536"),
        ({"port": "80"}, TypeError, "port must be an int, not str"),
        ({"per_minute": 0}, ValueError, "per_minute must be at least 1, not 0"),
        ({"per_minute": -1}, ValueError, "per_minute must be at least 1, not -1"),
        ({"per_minute": 1.5}, TypeError, "per_minute must be an int or None, not float"),
        ({"max_top": 0}, ValueError, "max_top must be at least 1, not 0"),
        ({"max_items": 0}, ValueError, "max_items must be at least 1, not 0"),
        ({"latency": -1}, ValueError, "latency must be at least 0, not -1"),
        ({"latency": "1"}, TypeError, "latency must be a number, not str"),
        ({"token_lifetime": 0}, ValueError, "token_lifetime must be above 0, not 0"),
        ({"token_lifetime": -1}, ValueError, "token_lifetime must be above 0, not -1"),
        ({"token_lifetime": float("inf")}, ValueError, "at most 1,000,000,000, not inf"),
        ({"token_lifetime": float("nan")}, ValueError, "token_lifetime must be above 0, not nan"),
        ({"download_lifetime": 0}, ValueError, "download_lifetime must be above 0, not 0"),
        ({"itwins": 2}, ValueError, "itwins must be at least 3, not 2"),
        ({"imodels": -1}, ValueError, "imodels must be at least 0, not -1"),
        ({"changesets": -1}, ValueError, "changesets must be at least 0, not -1"),
        ({"changesets": "5"}, TypeError, "changesets must be an int, not str"),
        ({"versions": -1}, ValueError, "versions must be at least 0, not -1"),
        ({"rows": -1}, ValueError, "rows must be at least 0, not -1"),
        ({"rows": True}, TypeError, "rows must be an int, not bool"),
        ({"seed": "x"}, TypeError, "seed must be an int, not str"),
        ({"payload_bytes": 1.0}, TypeError, "payload_bytes must be an int or None, not float"),
        ({"record": 1}, TypeError, "record must be a bool, not int"),
    ],
)
def test_wrong_arguments(wrong, kind, sentence):
    with pytest.raises(kind, match=f"{re.escape(sentence)}$"):
        Emulator(**wrong)


@pytest.mark.parametrize(
    ("call", "kind", "sentence"),
    [
        (
            lambda it: it.count("typo"),
            ValueError,
            "'typo' is no operation: one of a",
        ),
        (lambda it: it.count(""), ValueError, "'' is no operation"),
        (lambda it: it.count(None), TypeError, "operation must be a str, not None"),
        (lambda it: it.push_changeset("nope"), ValueError, "the emulator has no iModel 'nope'"),
        (lambda it: it.push_changeset(1), TypeError, "imodel_id must be a str, not int"),
        (lambda it: it.publish("nope", "1.0.0"), ValueError, "emulator has no extension 'nope'"),
        (lambda it: it.publish(None, "1.0.0"), TypeError, "extension_id must be a str, not None"),
        (lambda it: it.publish(SENSORS, 1), TypeError, "number must be a str, not int"),
        (lambda it: it.publish(SENSORS, ""), ValueError, "number must not be empty"),
        (lambda it: it.publish(SENSORS, "9", ["a"]), TypeError, "files must be a mapping"),
        (lambda it: it.publish(SENSORS, "9", {"a": "b"}), TypeError, "must be bytes, not str"),
        (lambda it: it.publish(SENSORS, "9", status=5), TypeError, "status must be a str, not int"),
        (lambda it: it.throttle(-1), ValueError, "seconds must be at least 0, not -1"),
        (lambda it: it.throttle("1"), TypeError, "seconds must be a number, not str"),
        (lambda it: it.issue_token("1"), TypeError, "lifetime must be a number, not str"),
    ],
)
def test_wrong_calls(call, kind, sentence):
    emulator = Emulator()
    with pytest.raises(kind, match=re.escape(sentence)):
        call(emulator)
    assert "9" not in emulator._state.extensions[SENSORS].versions


def test_right_calls():
    emulator = Emulator()
    assert emulator.count("download_archive") == 0
    imodel_id = SUN_CITY.rpartition("/")[2]
    assert emulator.push_changeset(imodel_id.upper()) == 101
    emulator.publish(SENSORS.upper(), "9.0.0", {"index.js": b"1"})
    assert emulator.issue_token(-1) != emulator.issue_token()
