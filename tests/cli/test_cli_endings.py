"""How a command ends: exit codes, one line for an error, signals, and pipes nobody reads."""

import asyncio
import base64
import contextlib
import io
import json
import os
import re
import select
import signal
import subprocess
import sys
import time

import pytest
from terminal import COMMAND, QUICK, Ended, environment, in_terminal, run

from itwin_async.cli import main
from itwin_async.emulator import Cut, Delay, Edit, Emulator, Garbage, Reset, Status, Throttle
from itwin_async.imodels import IModels

pytestmark = pytest.mark.slow  # a process for each test

IMODEL = "5e19bee0-3aea-4355-a9f0-c6df9989ee7d"
NOWHERE = "http://127.0.0.1:9"  # the port of a service that discards
LIST = ("extended-data", "list", IMODEL)


def failed(ended: Ended, code: int, message: str) -> None:
    assert ended.code == code
    assert re.fullmatch(rf"itwin-async: {message}[^\n]*\n", ended.err), ended.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        # The words are cyclopts'.
        (["nope"], ".*nope"),
        (["itwins", "list", "--nope"], ".*--nope"),
        (["itwins", "list", "--client-secret=canary-of-the-test"], ".*--client-secret"),
        (["--client-secret=canary of 'the' \"test\"", "itwins", "list"], ".*--client-secret=…"),
        (["nope", "--Access-TOKEN=canary"], ".*nope"),
        (["--my_password=canary"], ".*--my_password=…"),
        (["itwins", "list", "--limit", "0"], ".*--limit.*1"),
        (["itwins", "list", "--limit", "x"], ".*--limit"),
        (["imodels", "list"], ".*(?i:itwin)"),
        (["imodels", "list", "a", "b"], ".*b"),
        # And these are ours.
        (["imodels", "list", "", "--emulator"], "itwin_id must not be empty"),
        (["imodels", "list", "a", "--page-size", "1001", "--emulator"], "page_size must be"),
        (["itwins", "list", "--emulator", "--base-url", "https://x"], "--emulator brings"),
        (["itwins", "list", "--ask-secret", "--token-file", "f"], "give one of"),
        (["extensions", "delete", "x", "--emulator"], "give --yes"),
        (["request", "GET", "/x", "--query", "novalue", "--emulator"], "--query must be NAME="),
        (["request", "GET", "/x", "--query", "a=1", "--query", "a=2"], "--query a is given twice"),
        (["request", "GET", "/x", "--body", "{", "--emulator"], "--body is no JSON"),
        (["request", "GET", "/x", "--body", f"@{sys.executable}"], "--body is not UTF-8 text\n"),
        (["--timeout", "5"], "give a command: see --help\n"),
        (["--timeout", "5", "imodels"], "give a command: see --help\n"),
        (["--timeout", "5", "nope"], ".*nope"),
        (["request", "GET", "/x", "--items", "a", "--emulator"], "--items is for --paginate"),
        (["request", "PUT", "/x", "--paginate", "--emulator"], "--paginate is for GET"),
        (["request", "GET", "/x", "--paginate", "--body", "{}"], "--paginate is for GET"),
        (["request", "GET", "/x", "--paginate", "--output", "f"], "--paginate is for GET"),
        (["request", "GET", "/users/me", "--paginate", "--emulator"], "--paginate is for lists"),
        (["request", "LOOK", "/x", "--emulator"], "method must be one of"),
        (["request", "GET", "x", "--emulator"], "path must be one that starts with '/'"),
        (["extended-data", "export", "--output", "x.jsonl", "--emulator"], "give --imodel or"),
        (["extended-data", "export", "--output", "x.doc", "--imodel", "a", "--emulator"], "output"),
    ],
)
def test_wrong_usage_is_a_line_and_code_2(arguments, message, capfd, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.StringIO())
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    out, err = capfd.readouterr()
    failed(Ended(ended.value.code, out, err), 2, message.removesuffix("\n"))
    assert err.endswith(message) or not message.endswith("\n")
    assert out == ""
    assert "canary" not in err


def test_no_command_prints_the_help(capfd):
    with pytest.raises(SystemExit) as ended:
        main([])
    out, err = capfd.readouterr()
    assert (ended.value.code, err) == (0, "")
    assert "extended-data" in out


def test_messages_hold_no_control_characters(capfd):
    with pytest.raises(SystemExit) as ended:
        main(["request", "GET", "/x", "--query", "a\x1b[31m\x9b31m\u202e\nb https://h/a'b?canary"])
    err = capfd.readouterr().err
    assert ended.value.code == 2
    assert err.removesuffix("\n").isprintable()
    assert "canary" not in err
    with pytest.raises(SystemExit):
        main(["itwins", "nope\x9b31m\u202e"])
    assert capfd.readouterr().err.removesuffix("\n").isprintable()


@pytest.mark.parametrize(
    ("fault", "code", "message"),
    [
        (Status(400), 1, "400 "),
        (Status(401), 4, "401 "),
        (Status(403), 4, "403 "),
        (Status(404), 3, "404 iModelNotFound: Requested iModel is not available"),
        (Throttle(3_600), 5, "429 "),
        (Status(500, headers={}), 1, "500 "),
        (Reset(), 1, "GET"),
        (Garbage(), 1, "GET"),
    ],
)
async def test_failure_is_a_line_and_a_code(emulator, fault, code, message):
    emulator.faults.add("get_imodel", fault, times=None)
    ended = await run("imodels", "show", IMODEL, variables=emulator.environment, command=QUICK)
    assert ended.code == code
    assert ended.out == ""
    assert ended.err.startswith("itwin-async: ")
    assert ended.err.count("\n") == 1


async def test_rate_limit_says_when_to_try_again(emulator):
    emulator.faults.add("get_imodel", Throttle(3_600), times=None)
    ended = await run("imodels", "show", IMODEL, variables=emulator.environment)
    failed(ended, 5, r"429 .*\. Try again in 3,60\d s\.")


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("imodels", "list", "White River"), 1, "422 .* 'White River' is not a valid 'iTwinId'"),
        (("imodels", "show", "x"), 3, "404 .* /imodels/x is missing, or not visible to this cal"),
        (
            ("extended-data", "export", "--imodel", "x", "y", "--output", "{}/rows.jsonl"),
            3,
            "404 .* /imodels/./changesets/extendeddata is missing.* --keep-going leaves out",
        ),
    ],
)  # fmt: skip
def test_a_refusal_names_what_was_wrong(arguments, code, message, capfd, tmp_path):
    with pytest.raises(SystemExit) as ended:
        main([*(a.format(tmp_path) for a in arguments), "--emulator"])
    failed(Ended(ended.value.code, *capfd.readouterr()), code, message)


async def test_a_download_is_resumed_on_request(emulator, tmp_path):
    content = bytes(range(256)) * 1_000
    emulator.publish("41d94bd4-46b8-48e9-a29a-7c7704a7e662", "9.0.0", {"a.bin": content})
    words = ("extensions", "download", "41d94bd4-46b8-48e9-a29a-7c7704a7e662", "9.0.0")
    words = (*words, str(tmp_path), "--resume")
    emulator.faults.add("download", Cut(100_000))
    emulator.faults.add("download", Status(404))
    ended = await run(*words, variables=emulator.environment, command=QUICK)
    assert ended.code == 3
    ended = await run(*words, variables=emulator.environment, command=QUICK)
    assert ended.code == 0
    assert [path.name for path in tmp_path.iterdir()] == ["a.bin"]
    assert (tmp_path / "a.bin").read_bytes() == content
    assert emulator.requests[-1].headers["Range"] == "bytes=100000-"


async def test_no_server_is_code_1():
    ended = await run(
        "itwins", "list",
        variables={"ITWIN_BASE_URL": NOWHERE, "ITWIN_TOKEN_URL": f"{NOWHERE}/token",
                   "ITWIN_CLIENT_ID": "me", "ITWIN_CLIENT_SECRET": "canary-secret"},
        command=QUICK,
    )  # fmt: skip
    failed(ended, 1, "")
    assert "canary" not in ended.err


async def test_a_file_that_is_there_is_code_1(tmp_path):
    (tmp_path / "package.json").write_text("mine")
    ended = await run(
        "extensions", "download", "41d94bd4-46b8-48e9-a29a-7c7704a7e662", "2.0.0", str(tmp_path),
        "--emulator",
    )  # fmt: skip
    failed(ended, 1, ".* --overwrite to replace it")
    assert (tmp_path / "package.json").read_text() == "mine"


async def test_bad_payload_costs_itself_and_code_6(emulator):
    def spoil(page):
        page["extendedData"][1]["data"] = "?"

    emulator.faults.add("list_extended_data", Edit(spoil))
    ended = await run(*LIST, variables=emulator.environment)
    failed(ended, 6, "extended data of changeset 2 ")
    found = [json.loads(line)["changeset_index"] for line in ended.out.splitlines()]
    assert found == [1, *range(3, 26)]


async def test_payload_that_is_not_utf_8_is_a_bad_one(emulator):
    def spoil(page):
        page["extendedData"][1]["data"] = base64.b64encode(b'{"a": "\xff"}').decode()

    emulator.faults.add("list_extended_data", Edit(spoil))
    ended = await run(*LIST, variables=emulator.environment)
    failed(ended, 6, "extended data of changeset 2 .*UTF-8")
    assert len(ended.out.splitlines()) == 24


async def test_payload_with_newlines_is_one_line(emulator):
    def spread(page):
        page["extendedData"][0]["data"] = base64.b64encode(b'{\r\n"a":\n 1.50}').decode()

    emulator.faults.add("list_extended_data", Edit(spread))
    ended = await run(*LIST, "--limit", "1", variables=emulator.environment)
    assert '"data":{"a":1.50}' in re.sub(r"\s", "", ended.out.splitlines()[0])


async def test_verbose_shows_the_log_and_no_secret(emulator):
    ended = await run("itwins", "list", "--verbose", variables=emulator.environment)
    assert ended.code == 0
    assert len(ended.err.splitlines()) > 1
    assert emulator.credentials.client_secret not in ended.err


def start(
    *arguments: str, command=COMMAND, stdout=subprocess.PIPE, **options
) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [*command, *arguments],
        stdout=stdout,
        stderr=subprocess.PIPE,
        env=environment(options.pop("variables", None)),
        **options,
    )


@contextlib.contextmanager
def ending(process: subprocess.Popen[bytes]):
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


# What the signal must not wait for takes at least thrice as long.
AT_ONCE = 10.0


def slow_list(tmp_path) -> list[str]:
    """A list whose second page takes a minute, in a process that ends as `main` does."""
    code = (
        "from itwin_async.cli import _emulated, main\n"
        "from itwin_async.emulator import Delay, Emulator\n"
        "def slow():\n"
        "    emulator = Emulator(imodels=1, changesets=20)\n"
        "    emulator.faults.add('list_extended_data', Delay(60), after=1)\n"
        "    return emulator\n"
        "_emulated.emulator = slow\n"
        f"main({[*LIST, '--page-size', '5', '--emulator']})\n"
    )
    (tmp_path / "slow.py").write_text(code)
    return [sys.executable, str(tmp_path / "slow.py")]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_signal_in_mid_stream_ends_at_once_and_quietly(number, code, tmp_path):
    with ending(start(command=slow_list(tmp_path))) as process:
        assert process.stdout.readline()  # it is in the list, and the next page takes a minute
        process.send_signal(number)
        assert process.wait(AT_ONCE) == code
        assert process.stderr.read() == b""


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_signal_ends_a_write_that_nobody_reads(number, code):
    reader, writer = os.pipe()
    with (
        ending(start(*LIST, "--emulator", command=QUICK, stdout=writer)) as process,
        os.fdopen(reader, "rb"),
        os.fdopen(writer, "wb"),
    ):
        until = time.monotonic() + 60
        while select.select([], [writer], [], 0)[1]:  # it is not full yet
            assert time.monotonic() < until
            time.sleep(0.01)
        process.send_signal(number)
        assert process.wait(AT_ONCE) == code


STUCK = """
import socket, time
socket.getaddrinfo = lambda *_, **__: (print("looking up", flush=True), time.sleep(30))
from itwin_async.cli import main
main(["itwins", "list"])
"""


def test_signal_does_not_wait_for_a_name_look_up():
    variables = {"ITWIN_CLIENT_ID": "me", "ITWIN_CLIENT_SECRET": "secret"}
    process = subprocess.Popen(
        [sys.executable, "-c", STUCK], stdout=subprocess.PIPE, env=environment(variables)
    )
    with ending(process):
        assert process.stdout.readline() == b"looking up\n"
        process.send_signal(signal.SIGINT)
        assert process.wait(AT_ONCE) == 130


def test_a_background_job_that_ignores_ctrl_c_goes_on():
    ignoring = lambda: signal.signal(signal.SIGINT, signal.SIG_IGN)  # noqa: E731
    with ending(start(*LIST, "--emulator", preexec_fn=ignoring)) as process:
        process.stdout.readline()
        process.send_signal(signal.SIGINT)
        for _ in range(150):  # it has read no more than a page by now
            assert process.stdout.readline()
        assert process.poll() is None


@pytest.mark.parametrize("arguments", [LIST, (*LIST, "--json")])
def test_ctrl_c_in_a_terminal_prints_a_word(arguments):
    pressed = []

    def press(screen: str) -> bytes | None:
        if pressed or not re.search(r"[1-9]00 items|\"changeset_index\":100", screen):
            return None
        pressed.append(True)
        return b"\x03"

    code, screen = in_terminal(*arguments, "--emulator", react=press)
    assert code == 130
    assert screen.endswith("Interrupted.\r\n")
    assert "Traceback" not in screen


def test_ctrl_c_at_a_prompt_prints_a_word():
    code, screen = in_terminal(
        "itwins", "list", "--client-id", "me", "--ask-secret",
        react=lambda screen: b"\x03" if screen.endswith("secret: ") else None,
    )  # fmt: skip
    assert code == 130
    assert screen.endswith("Interrupted.\r\n")


@pytest.mark.parametrize("arguments", [LIST, ("extensions", "list")])
def test_a_closed_pipe_ends_quietly(arguments):
    with ending(start(*arguments, "--emulator")) as process:
        assert json.loads(process.stdout.readline())
        process.stdout.close()
        process.wait(30)
        assert process.stderr.read() == b""
        assert process.returncode == 141
        process.stdout = None


@pytest.mark.parametrize("arguments", [("--help",), ("--version",), ("demo",), LIST])
def test_output_that_nobody_reads_ends_quietly(arguments):
    reader, writer = os.pipe()
    os.close(reader)
    with ending(start(*arguments, *(["--emulator"] if arguments is LIST else []),
                      stdout=writer)) as process:  # fmt: skip
        os.close(writer)
        assert process.wait(60) == 141
        assert process.stderr.read() == b""


def shell(command: str) -> Ended:
    name = f"{sys.executable} -m itwin_async"
    ended = subprocess.run(
        command.replace("itwin-async", name, 1), shell=True, env=environment(),
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    return Ended(ended.returncode, ended.stdout, ended.stderr)


def test_closed_standard_output_is_a_line():
    failed(shell("itwin-async itwins list --emulator >&-"), 1, "standard output is closed")


def test_closed_standard_error_hinders_nothing():
    ended = shell("itwin-async itwins list --emulator --limit 1 2>&-")
    assert (ended.code, json.loads(ended.out)["displayName"]) == (0, "White River")


def test_closed_standard_input_is_an_empty_one():
    failed(shell("itwin-async itwins list --token-file - <&-"), 4, "--token-file - must hold")
    failed(shell("itwin-async extensions delete x --emulator <&-"), 2, "give --yes")


def test_full_disk_is_a_line():
    failed(shell("itwin-async itwins list --emulator >/dev/full"), 1, "No space left")


def test_a_closed_session_is_a_line(monkeypatch, capfd):
    async def closed(*_, **__):
        raise RuntimeError("this ITwinSession is closed")

    monkeypatch.setattr(IModels, "get_imodel", closed)
    with pytest.raises(SystemExit) as ended:
        main(["imodels", "show", IMODEL, "--emulator"])
    failed(Ended(ended.value.code, *capfd.readouterr()), 1, "this ITwinSession is closed")


async def test_lines_come_as_soon_as_their_page(emulator):
    emulator.faults.add("list_extended_data", Delay(60), after=1)
    process = await asyncio.create_subprocess_exec(
        *COMMAND, *LIST, "--page-size", "5",
        env=environment(emulator.environment), stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        for index in range(1, 6):
            line = await asyncio.wait_for(process.stdout.readline(), 30)
            assert json.loads(line)["changeset_index"] == index
    finally:
        process.kill()
        await process.wait()


async def test_memory_is_flat_however_long_the_list():
    """What a list of 20,000 takes more than one of 200 is less than its own 20 MB."""
    peaks = []
    for changesets in (200, 20_000):
        async with Emulator(imodels=1, changesets=changesets, payload_bytes=1_000) as emulator:
            with_peak = (
                "import resource, sys\nfrom itwin_async.cli import main\n"
                f"try: main({[*LIST, '--page-size', '200']})\nfinally:\n"
                " print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, file=sys.stderr)"
            )
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-c", with_peak,
                env=environment(emulator.environment),
                stdout=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.PIPE,
            )  # fmt: skip
            _, err = await asyncio.wait_for(process.communicate(), 60)
            peaks.append(int(err) * 1024)
    assert peaks[1] - peaks[0] < 8_000_000
