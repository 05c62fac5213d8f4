"""Errors of the command line advise what to check or to pass."""

import pytest
from terminal import run

from itwin_async.emulator import Emulator

pytestmark = pytest.mark.slow  # a process for each test
IMODEL = "5e19bee0-3aea-4355-a9f0-c6df9989ee7d"
UNKNOWN = "00000000-0000-4000-8000-000000000000"


@pytest.mark.parametrize(
    ("arguments", "code", "advice"),
    [
        (("imodels", "list", "White River"), 1, "'White River' is not a valid 'iTwinId' value."),
        (("imodels", "show", UNKNOWN), 3, f"/imodels/{UNKNOWN} is missing, or not visible"),
        (("extensions", "list", "--itwin", UNKNOWN), 3, f"iTwinId {UNKNOWN} is missing, or not"),
        (("request", "GET", f"/imodels/{IMODEL}"), 1, "v1 was asked for, pass version v2"),
    ],
)
async def test_an_answer_that_refuses(emulator: Emulator, arguments, code, advice):
    ended = await run(*arguments, variables=emulator.environment)
    assert ended.code == code
    assert ended.err.startswith("itwin-async: ")
    assert ended.err.count("\n") == 1
    assert advice in ended.err


EXPORT = ("extended-data", "export", "--output", "a.jsonl")


@pytest.mark.parametrize(
    ("arguments", "advice"),
    [
        (("itwins", "list", "extra"), "Unexpected argument: extra. See --help."),
        ((*EXPORT, "--imodel", IMODEL, "--since", "today"), "not 'today'. See --help."),
        (("itwins", "list", "--limit", "2.7"), "a whole number is needed, not '2.7'. See --help."),
        ((*EXPORT, "--imodel", IMODEL, "--workers", "1e1"), "not '1e1'. See --help."),
        (("options", "--concurrency", "0x10"), "not '0x10'. See --help."),
        (EXPORT, "give --imodel or --itwin, whose extended data to export"),
    ],
)
async def test_a_wrong_argument(arguments, advice):
    ended = await run(*arguments, "--emulator")
    assert ended.code == 2
    assert ended.err.startswith("itwin-async: ")
    assert ended.err.endswith(f"{advice}\n")


async def test_an_itwin_that_is_missing_is_none_that_keep_going_leaves_out(emulator, tmp_path):
    output = str(tmp_path / "a.jsonl")
    words = ("extended-data", "export", "--itwin", UNKNOWN, "--output", output)
    ended = await run(*words, variables=emulator.environment)
    assert ended.code == 3
    assert "iTwinNotFound" in ended.err
    assert "--keep-going" not in ended.err


async def test_a_profile_without_a_login_is_named(tmp_path):
    variables = {"XDG_CONFIG_HOME": str(tmp_path), "ITWIN_CLIENT_ID": "me"}
    ended = await run("itwins", "list", "--profile", "second", variables=variables)
    assert ended.code == 4
    assert ended.err == (
        "itwin-async: nobody is signed in with --profile second: "
        "run: itwin-async auth login --profile second\n"
    )


async def test_what_is_no_token_is_named_by_where_it_comes_from(tmp_path):
    ended = await run("itwins", "list", variables={"ITWIN_ACCESS_TOKEN": "Bearer canary"})
    assert ended.code == 4
    assert ended.err.startswith("itwin-async: ITWIN_ACCESS_TOKEN: a token must be ")
    assert "canary" not in ended.err
    (tmp_path / "token").write_text("canary\xe9", encoding="utf-8")
    ended = await run("itwins", "list", "--token-file", str(tmp_path / "token"))
    assert ended.code == 4
    assert ended.err.startswith(f"itwin-async: --token-file {tmp_path / 'token'}: a token must be ")
    assert "canary" not in ended.err


async def test_a_client_that_is_not_known(emulator: Emulator):
    wrong = {**emulator.environment, "ITWIN_CLIENT_SECRET": "canary"}
    ended = await run("itwins", "list", variables=wrong)
    assert ended.code == 4
    assert "(ITWIN_CLIENT_ID, ITWIN_CLIENT_SECRET)" in ended.err
    assert "canary" not in ended.err


async def test_no_server(unused_tcp_port):
    base = f"http://127.0.0.1:{unused_tcp_port}"
    variables = {"ITWIN_BASE_URL": base, "ITWIN_ACCESS_TOKEN": "t"}
    ended = await run("itwins", "list", variables=variables)
    assert ended.code == 1
    assert f"127.0.0.1:{unused_tcp_port} refused the connection: is base_url" in ended.err
    assert "ITWIN_BASE_URL" in ended.err
