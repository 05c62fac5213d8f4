"""Signing in on the command line, against an emulator in a process of its own."""

import asyncio
import json
import re

import pytest
from sign_in_host import free_port, mode_of, visit
from terminal import COMMAND, environment, run

from itwin_async.emulator import Emulator

pytestmark = pytest.mark.slow  # a process for each test

PEOPLE = ("ITWIN_BASE_URL", "ITWIN_AUTHORITY", "ITWIN_USER_CLIENT_ID")


@pytest.fixture
async def platform(tmp_path):
    """An emulator in another process: its variables for a person, and all of them."""
    uri = f"http://localhost:{free_port()}/signin-callback"
    async with Emulator(redirect_uris=[uri], itwins=3, imodels=2, changesets=1) as emulator:
        variables = {name: emulator.environment[name] for name in PEOPLE}
        yield emulator, variables | {"XDG_CONFIG_HOME": str(tmp_path)}, uri


async def start(*arguments, variables):
    return await asyncio.create_subprocess_exec(
        *COMMAND, *arguments, env=environment(variables),
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip


async def address_in(process) -> str:
    """The address that a command asks to open."""
    async with asyncio.timeout(30):
        while line := (await process.stderr.readline()).decode():
            if line.startswith("http"):
                return line.strip()
    raise AssertionError("no address")


async def log_in(platform, *options, user="reader") -> str:
    emulator, variables, uri = platform
    process = await start(
        "auth", "login", "--no-browser", "--redirect-uri", uri, *options, variables=variables
    )
    address = emulator.sign_in_as(user, await address_in(process))
    _, message = await process.communicate(f"{address}\n".encode())
    assert process.returncode == 0, message.decode()
    return message.decode()


async def test_a_login_with_a_pasted_address_serves_the_next_commands(platform, tmp_path):
    emulator, variables, _ = platform
    message = await log_in(platform)
    assert "signed in as Reader" in message
    listed = await run("itwins", "list", variables=variables)
    assert (listed.code, listed.err) == (0, "")
    assert len(listed.out.splitlines()) == 3
    only_home = {"XDG_CONFIG_HOME": str(tmp_path)}  # a new shell, the day after
    listed = await run("itwins", "list", variables=only_home)
    assert (listed.code, listed.err) == (0, "")
    who = await run("auth", "whoami", variables=only_home)
    assert json.loads(who.out)["displayName"].startswith("Reader")
    token = await run("auth", "token", variables=only_home)
    assert re.fullmatch(r"\S+\n", token.out)
    out = await run("auth", "logout", variables=only_home)
    assert (out.code, out.err) == (0, "itwin-async: signed out\n")
    assert emulator.requests[-1].path == "/connect/revocation"
    listed = await run("itwins", "list", variables=only_home)
    assert listed.code == 4
    assert "run: itwin-async auth login" in listed.err
    assert listed.err.count("\n") == 1


async def test_what_is_kept_is_the_refresh_token_alone_and_its_owners(platform, tmp_path):
    emulator, variables, _ = platform
    await log_in(platform)
    home = tmp_path / "itwin-async"
    assert mode_of(home / "tokens.json") == 0o600
    profile = json.loads((home / "profiles.json").read_text())
    assert profile == {
        "default": {
            "client_id": emulator.user_client_id,
            "base_url": emulator.url,
            "authority": emulator.url,
        }
    }
    [token] = json.loads((home / "tokens.json").read_text())["refresh_tokens"].values()
    access = (await run("auth", "token", variables=variables)).out.strip()
    for path in home.iterdir():
        assert access not in path.read_text()
        assert path.name == "tokens.json" or token not in path.read_text()


async def test_a_login_with_a_browser(platform, tmp_path):
    emulator, variables, uri = platform
    shown = tmp_path / "shown"
    script = tmp_path / "browser"
    script.write_text(f'#!/bin/sh\nprintf "%s" "$1" > {shown}.part && mv {shown}.part {shown}\n')
    script.chmod(0o700)
    process = await start(
        "auth", "login", "--redirect-uri", uri, variables=variables | {"BROWSER": str(script)}
    )
    address = await address_in(process)
    async with asyncio.timeout(30):
        while not shown.exists():
            await asyncio.sleep(0.01)
    assert shown.read_text() == address
    status, page = await visit(emulator.sign_in_as("owner", address))
    assert status == 200
    assert "Signed in" in page
    _, message = await process.communicate()
    assert process.returncode == 0, message.decode()
    assert "signed in as Owner" in message.decode()


async def test_a_refusal_is_code_4_in_one_line(platform):
    emulator, variables, uri = platform
    process = await start(
        "auth", "login", "--no-browser", "--redirect-uri", uri, variables=variables
    )
    address = emulator.sign_in_as(None, await address_in(process))
    _, message = await process.communicate(f"{address}\n".encode())
    assert process.returncode == 4
    assert "access_denied" in message.decode()
    assert not (await run("auth", "whoami", variables=variables)).out


async def test_a_store_that_cannot_be_used_is_told_before_anybody_signs_in(platform, tmp_path):
    _, variables, uri = platform
    (tmp_path / "itwin-async" / "tokens.json").mkdir(parents=True)
    for options in ((), ("--no-browser",)):
        ended = await run("auth", "login", "--redirect-uri", uri, *options, variables=variables)
        assert (ended.code, ended.err.count("\n")) == (1, 1)
        assert "the token store is not a regular file" in ended.err


async def test_a_foreign_address_is_asked_for_again(platform):
    emulator, variables, uri = platform
    process = await start(
        "auth", "login", "--no-browser", "--redirect-uri", uri, variables=variables
    )
    url = await address_in(process)
    process.stdin.write(f"{uri}?code=canary-foreign&state=foreign\n".encode())
    _, message = await process.communicate(f"{emulator.sign_in_as('reader', url)}\n".encode())
    assert process.returncode == 0
    assert "not that of this sign-in" in message.decode()
    assert "canary" not in message.decode()


async def test_profiles_are_people_of_their_own(platform, tmp_path):
    _, variables, _ = platform
    await log_in(platform, user="owner")
    await log_in(platform, "--profile", "second", user="reader")
    names = []
    for options in ((), ("--profile", "second"), ("--profile", "default")):
        who = await run("auth", "whoami", *options, variables=variables)
        names.append(json.loads(who.out)["displayName"].split()[0])
    assert names == ["Owner", "Reader", "Owner"]
    listed = await run("itwins", "list", "--profile", "second", variables=variables)
    assert listed.code == 0
    unknown = await run(
        "itwins", "list", "--profile", "third", variables={"XDG_CONFIG_HOME": str(tmp_path)}
    )
    assert unknown.code == 4
    wrong = await run("itwins", "list", "--profile", "../x", variables=variables)
    assert wrong.code == 2


async def test_a_service_comes_before_a_login_and_nothing_opens(platform):
    emulator, variables, _ = platform
    await log_in(platform)
    before = emulator.count("token")
    listed = await run("itwins", "list", variables=variables | emulator.environment)
    assert listed.code == 0
    record = [item for item in emulator.requests if item.operation == "token"][before]
    assert b"client_credentials" in record.body


async def test_who_is_not_signed_in_is_not_signed_out(platform):
    _, variables, _ = platform
    await log_in(platform)
    ended = await run("auth", "logout", "--profile", "second", variables=variables)
    assert (ended.code, ended.out) == (0, "")
    assert ended.err == "itwin-async: nobody is signed in\n"
    assert (await run("itwins", "list", variables=variables)).code == 0


@pytest.mark.parametrize("command", [("itwins", "list"), ("auth", "whoami"), ("auth", "token")])
async def test_without_a_login_a_job_fails_in_one_line(tmp_path, command):
    opened = tmp_path / "opened"
    variables = {"XDG_CONFIG_HOME": str(tmp_path), "BROWSER": f"touch {opened}; true"}
    ended = await run(*command, variables=variables)
    assert ended.code == 4
    assert ended.err.count("\n") == 1
    assert "run: itwin-async auth login" in ended.err
    assert not opened.exists()


async def test_an_access_token_of_the_environment_is_used(platform):
    emulator, variables, _ = platform
    with_token = variables | {"ITWIN_ACCESS_TOKEN": emulator.issue_token()}
    assert (await run("itwins", "list", variables=with_token)).code == 0
    assert emulator.count("token") == 0


async def test_two_commands_at_once_share_a_rotating_token(platform):
    _, variables, _ = platform
    await log_in(platform)
    ended = await asyncio.gather(*(run("itwins", "list", variables=variables) for _ in range(4)))
    assert [item.code for item in ended] == [0] * 4, ended
    assert (await run("itwins", "list", variables=variables)).code == 0


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("auth", "login"), 4, "no client id"),
        (("auth", "logout"), 4, "no client id"),
        (("auth", "login", "--emulator"), 2, "--emulator"),
        (("auth", "login", "--client-id", "x", "--base-url", "https://p.example"), 2, "authority"),
        (
            ("auth", "login", "--client-id", "x", "--redirect-uri", "http://app.example/"),
            2, "must be https",
        ),
        (
            ("auth", "login", "--client-id", "x", "--redirect-uri", "https://app.example/"),
            2, "auth login --no-browser",
        ),
    ],
)  # fmt: skip
async def test_what_cannot_be_is_one_line(tmp_path, arguments, code, message):
    ended = await run(*arguments, variables={"XDG_CONFIG_HOME": str(tmp_path)})
    assert ended.code == code
    assert message in ended.err
    assert ended.err.count("\n") == 1
