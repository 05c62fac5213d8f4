"""Who signs in: the environment, files and prompts, and never an argument."""

import subprocess

import pytest
from secrecy import frames
from terminal import COMMAND, QUICK, environment, in_terminal, run

from itwin_async.cli._errors import CredentialsError
from itwin_async.cli._options import Options
from itwin_async.emulator import Emulator

pytestmark = pytest.mark.slow  # a process for each test


@pytest.fixture
def where(emulator: Emulator) -> dict[str, str]:
    """The emulator's addresses, and no credentials."""
    urls = ("ITWIN_BASE_URL", "ITWIN_TOKEN_URL")
    return {name: emulator.environment[name] for name in urls}


async def test_environment_signs_in(emulator):
    assert (await run("itwins", "list", variables=emulator.environment)).code == 0


@pytest.mark.parametrize("by", ["file", "stdin"])
async def test_secret_comes_from_a_file_or_stdin(emulator, where, by, tmp_path):
    secret = f"{emulator.credentials.client_secret}\n"
    (tmp_path / "secret").write_text(secret)
    ended = await run(
        "itwins", "list",
        "--client-id", emulator.credentials.client_id,
        "--client-secret-file", "-" if by == "stdin" else str(tmp_path / "secret"),
        variables=where, stdin=secret,
    )  # fmt: skip
    assert (ended.code, ended.err) == (0, "")


@pytest.mark.parametrize("by", ["file", "stdin"])
async def test_token_comes_from_a_file_or_stdin(emulator, where, by, tmp_path):
    token = emulator.issue_token()
    (tmp_path / "token").write_text(token)
    ended = await run(
        "itwins", "list", "--token-file", "-" if by == "stdin" else str(tmp_path / "token"),
        variables=where, stdin=token,
    )  # fmt: skip
    assert (ended.code, ended.err) == (0, "")
    assert emulator.count("token") == 0


async def test_options_say_where_the_platform_is(emulator, tmp_path):
    (tmp_path / "secret").write_text(emulator.credentials.client_secret)
    ended = await run(
        "--base-url", emulator.url, "--token-url", emulator.token_url,
        "--client-id", emulator.credentials.client_id,
        "--client-secret-file", str(tmp_path / "secret"),
        "itwins", "list",
    )  # fmt: skip
    assert (ended.code, ended.err) == (0, "")


async def test_wrong_secret_is_code_4_and_is_not_shown(emulator, tmp_path):
    (tmp_path / "secret").write_text("canary-of-the-file")
    ended = await run(
        "itwins", "list", "--client-secret-file", str(tmp_path / "secret"),
        variables=emulator.environment,
    )  # fmt: skip
    assert ended.code == 4
    assert ended.err.startswith("itwin-async: 401 ") or "invalid_client" in ended.err
    assert "canary" not in ended.err


@pytest.mark.parametrize("by", ["file", "stdin"])
async def test_mark_that_windows_begins_a_file_with_is_no_part_of_a_secret(
    emulator, where, by, tmp_path
):
    secret = f"\ufeff{emulator.credentials.client_secret}\r\n"
    (tmp_path / "secret").write_bytes(secret.encode())
    ended = await run(
        "itwins", "list",
        "--client-id", emulator.credentials.client_id,
        "--client-secret-file", "-" if by == "stdin" else str(tmp_path / "secret"),
        variables=where, stdin=secret,
    )  # fmt: skip
    assert (ended.code, ended.err) == (0, "")


@pytest.mark.parametrize(
    ("variables", "arguments", "message"),
    [
        ({}, (), "no client id (ITWIN_CLIENT_ID or --client-id)"),
        ({}, ("--client-id", "me"), "no client secret (ITWIN_CLIENT_SECRET or --client-secret-f"),
        ({"ITWIN_CLIENT_ID": "me"}, (), "no client secret"),
        ({}, ("--token-file", "missing"), "--token-file missing cannot be read: No such file"),
        ({}, ("--token-file", "-"), "--token-file - must hold one word"),
    ],
)
async def test_missing_credentials_are_named(variables, arguments, message):
    ended = await run("itwins", "list", *arguments, variables=variables)
    assert ended.code == 4
    assert ended.err.startswith(f"itwin-async: {message}")
    assert ended.err.count("\n") == 1


async def test_file_with_more_than_a_secret_is_refused_without_showing_it(where, tmp_path):
    (tmp_path / "secret").write_text("canary-one canary-two")
    ended = await run(
        "itwins", "list", "--client-id", "me", "--client-secret-file", str(tmp_path / "secret"),
        variables=where,
    )  # fmt: skip
    assert ended.code == 4
    assert "canary" not in ended.err


def test_no_frame_of_a_refused_file_holds_what_is_in_it(tmp_path):
    (tmp_path / "secret").write_text("canary-one canary-two")
    options = Options(client_id="me", client_secret_file=str(tmp_path / "secret"))
    with pytest.raises(CredentialsError, match="one word") as caught:
        options.token_provider()
    assert "canary" not in frames(caught.value)


@pytest.mark.parametrize(
    "arguments",
    [
        ("--client-id", "me", "--ask-secret"),
        ("--client-id", "me", "--client-secret-file", "-"),
        ("--token-file", "-"),
    ],
)
def test_prompt_does_not_echo_the_secret(arguments):
    code, screen = in_terminal(
        "itwins", "list", *arguments,
        "--base-url", "http://127.0.0.1:9", "--token-url", "http://127.0.0.1:9/token",
        react=lambda screen: b"canary-typed\n" if screen.endswith(("secret: ", "oken: ")) else None,
        command=QUICK,
    )  # fmt: skip
    assert code == 1  # nobody listens there: the secret was read, and is not shown
    assert "canary" not in screen


def test_end_of_input_at_a_prompt_is_a_line():
    code, screen = in_terminal(
        "itwins", "list", "--client-id", "me", "--ask-secret",
        react=lambda screen: b"\x04" if screen.endswith("secret: ") else None,
    )  # fmt: skip
    assert code == 4
    assert screen.splitlines()[1].startswith("itwin-async: Client secret was not given")
    assert len(screen.splitlines()) == 2


def test_a_prompt_that_nobody_sees_is_a_line():
    ended = subprocess.run(
        [*COMMAND, "itwins", "list", "--client-id", "me", "--ask-secret"],
        env=environment(), stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60,
        start_new_session=True,  # without a terminal to ask on
        check=False,
    )  # fmt: skip
    assert ended.returncode == 4
    assert ended.stderr.startswith("itwin-async: Client secret was not given")
    assert ended.stderr.count("\n") == 1
