"""Standard streams: output that is lost is an error, and messages never change the exit code.

A program that calls `main` is afterwards as it was before.
"""

import asyncio
import contextlib
import errno
import fcntl
import io
import json
import logging
import os
import signal
import struct
import subprocess
import sys
import termios
import threading
import warnings
from pathlib import Path

import anyio
import pytest
from rich.console import Console
from rich.progress import Progress
from terminal import COMMAND, environment

from itwin_async.cli import _emulated, main
from itwin_async.cli._stdio import Stderr, Stdout, as_file
from itwin_async.emulator import Edit, Emulator
from itwin_async.imodels import IModels

IMODEL = "5e19bee0-3aea-4355-a9f0-c6df9989ee7d"
LIST = ("extended-data", "list", IMODEL)
BUFFERED = {"": "buffered", "1": "unbuffered"}
NO_SPACE = b"itwin-async: No space left on device. Standard output is not complete.\n"
ASCII = {"LC_ALL": "C", "PYTHONIOENCODING": "ascii"}


@pytest.fixture
def platform(monkeypatch: pytest.MonkeyPatch) -> None:
    """A small platform behind `--emulator`, without its waits, and with a city in its names."""

    def fast_emulator() -> Emulator:
        def rename(page):
            page["iTwins"][0]["displayName"] = "Zürich 🚆"

        emulator = Emulator(imodels=1, changesets=400)
        emulator.faults.add("list_itwins", Edit(rename), times=None)
        return emulator

    monkeypatch.setattr(_emulated, "emulator", fast_emulator)


def called(*arguments: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    return ended.value.code


def start(*arguments: str, variables=None, **streams) -> subprocess.Popen[bytes]:
    return subprocess.Popen([*COMMAND, *arguments], env=environment(variables), **streams)


def pipe_that_does_not_block() -> tuple[int, int]:
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 4_096)
    return reader, writer


def waiting(reader: int) -> int:
    """Bytes in a pipe."""
    return struct.unpack("i", fcntl.ioctl(reader, termios.FIONREAD, b"0000"))[0]


# Every byte is out


@pytest.mark.parametrize("unbuffered", BUFFERED, ids=BUFFERED.get)
async def test_output_that_does_not_block_gets_every_line(unbuffered):
    async with Emulator(imodels=1, changesets=400) as emulator:
        reader, writer = pipe_that_does_not_block()
        variables = {**emulator.environment, "PYTHONUNBUFFERED": unbuffered}
        process = start(*LIST, variables=variables, stdout=writer, stderr=subprocess.PIPE)
        os.close(writer)
        async with asyncio.timeout(60):
            while waiting(reader) < 3_500:  # nobody reads until there is no more room
                await asyncio.sleep(0.01)

        def read() -> bytes:
            with os.fdopen(reader, "rb") as pipe:
                return pipe.read()

        out = await anyio.to_thread.run_sync(read)
        _, err = await anyio.to_thread.run_sync(process.communicate)
    assert (process.returncode, err) == (0, b"")
    found = [json.loads(line)["changeset_index"] for line in out.splitlines()]
    assert found == list(range(1, 401))


@pytest.mark.slow
@pytest.mark.parametrize("unbuffered", BUFFERED, ids=BUFFERED.get)
@pytest.mark.parametrize(
    "arguments",
    [("itwins", "list", "--emulator"), ("--help",), ("emulator", "--help"), ("emulator",)],
)
def test_a_full_disk_is_no_success(unbuffered, arguments):
    with Path("/dev/full").open("wb") as full:
        process = start(*arguments, variables={"PYTHONUNBUFFERED": unbuffered},
                        stdout=full, stderr=subprocess.PIPE)  # fmt: skip
        _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (1, NO_SPACE)


@pytest.mark.slow
@pytest.mark.parametrize("unbuffered", BUFFERED, ids=BUFFERED.get)
@pytest.mark.unmeasured
def test_a_file_that_may_not_grow_is_no_success(unbuffered, tmp_path):
    """As a disk that has room for a part."""
    code = (
        "import resource, signal\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (3_000, 3_000))\n"
        "from itwin_async.cli import main\n"
        "main(['completion', 'bash'])\n"
    )
    output = tmp_path / "out"
    with output.open("wb") as file:
        process = subprocess.run(
            [sys.executable, "-B", "-c", code], env=environment({"PYTHONUNBUFFERED": unbuffered}),
            stdout=file, stderr=subprocess.PIPE, timeout=60, check=False,
        )  # fmt: skip
    assert output.stat().st_size == 3_000
    assert (process.returncode, process.stderr) == (
        1,
        b"itwin-async: File too large. Standard output is not complete.\n",
    )


def test_an_error_that_a_file_system_reports_at_the_close_counts(platform, monkeypatch, capfd):
    def full(_: int) -> int:
        raise OSError(errno.EDQUOT, "Disk quota exceeded")

    with monkeypatch.context() as patch:
        patch.setattr(os, "dup", full)
        assert called("itwins", "list", "--emulator") == 1
    assert capfd.readouterr().err == (
        "itwin-async: Disk quota exceeded. Standard output is not complete.\n"
    )


def test_a_raw_stream_that_takes_a_byte_at_a_time_gets_all_of_them(monkeypatch):
    class Slow(io.RawIOBase):
        taken = b""

        def writable(self) -> bool:
            return True

        def write(self, data) -> int:
            self.taken += bytes(data[:1])
            return 1

    raw = Slow()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, "utf-8", write_through=True))
    Stdout().write("Zürich\n")
    assert raw.taken == "Zürich\n".encode()


def test_what_the_host_wrote_comes_first(capfd):
    sys.stdout.write("before ")
    Stdout().write("after")
    assert capfd.readouterr().out == "before after"


@pytest.mark.parametrize("arguments", [("itwins", "list", "--emulator"), ("--version",)])
def test_output_goes_where_the_host_wants_it(platform, arguments):
    with contextlib.redirect_stdout(io.StringIO()) as out:
        assert called(*arguments) == 0
    assert out.getvalue().endswith("\n")


def test_a_file_that_cannot_be_written_is_named(platform, capfd):
    assert called("request", "GET", "/itwins/", "--emulator", "--output", "/dev/full") == 1
    assert capfd.readouterr().err == "itwin-async: /dev/full: No space left on device\n"


# Standard input


@pytest.mark.slow
@pytest.mark.parametrize("variables", [ASCII, {}], ids=["ASCII", "UTF-8"])
@pytest.mark.parametrize("blocking", [True, False])
async def test_input_is_read_to_its_end_and_is_utf_8(emulator, variables, blocking):
    body = {"name": "Zürich", "iTwinId": "76c1102e-4f33-4dfa-ad93-bcd9ab717977"}
    text = b"\xef\xbb\xbf" + json.dumps(body, ensure_ascii=False).encode()
    reader, writer = os.pipe()
    os.set_blocking(reader, blocking)
    process = start(
        "request", "POST", "/extensions/", "--body", "-",
        variables={**emulator.environment, **variables},
        stdin=reader, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    os.close(reader)
    os.write(writer, text[:20])
    async with asyncio.timeout(60):
        while waiting(writer):  # it was read, and there is no more
            await asyncio.sleep(0.01)
    os.write(writer, text[20:])
    os.close(writer)
    out, err = await anyio.to_thread.run_sync(process.communicate)
    assert (process.returncode, err) == (0, b"")
    assert json.loads(out)["extension"]["name"] == "Zürich"


# What cannot be encoded


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252", "UTF8"])
def test_json_lines_hold_every_character_in_any_encoding(platform, monkeypatch, encoding):
    out = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(out, encoding))
    assert called("itwins", "list", "--emulator") == 0
    first, *rest = out.getvalue().splitlines()
    assert json.loads(first.decode())["displayName"] == "Zürich 🚆"
    assert len(rest) == 4
    assert first.isascii() is (encoding != "UTF8")


@pytest.mark.parametrize("json_lines", [False, True])
@pytest.mark.parametrize("arguments", [("itwins", "list"), ("request", "GET", "/itwins/")])
def test_a_terminal_that_knows_no_umlaut_gets_an_escape(
    platform, monkeypatch, arguments, json_lines
):
    out = io.BytesIO()
    stream = io.TextIOWrapper(out, "ascii")
    monkeypatch.setattr(stream, "isatty", lambda: True, raising=False)
    monkeypatch.setattr(sys, "stdout", stream)
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("TERM", "dumb")
    assert called(*arguments, "--emulator", *(["--json"] if json_lines else [])) == 0
    shown = out.getvalue().decode("ascii")
    if json_lines or arguments[0] == "request":
        assert r"Z\u00fcrich \ud83d\ude86" in shown
    else:
        assert r"Z\xfcrich \U0001f686" in shown


def test_columns_stand_below_each_other_where_characters_are_escaped(platform, monkeypatch):
    out = io.BytesIO()
    stream = io.TextIOWrapper(out, "ascii")
    monkeypatch.setattr(stream, "isatty", lambda: True, raising=False)
    monkeypatch.setattr(sys, "stdout", stream)
    monkeypatch.setenv("TERM", "dumb")
    assert called("itwins", "list", "--emulator") == 0
    head, *rows, _ = out.getvalue().decode("ascii").splitlines()
    at = head.index(" id") + 1
    assert all(len(row[at:].split(maxsplit=1)[0]) == 36 and row[at - 1] == " " for row in rows)


@pytest.mark.slow
@pytest.mark.parametrize("variables", [ASCII, {"LC_ALL": "C", "PYTHONUTF8": "0"}, {"LANG": ""}])
def test_ascii_surroundings_lose_nothing(variables):
    process = start("--help", variables=variables, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (0, b"")
    assert b"Exit codes" in out


def test_a_path_that_is_no_text_is_shown_with_escapes(platform, tmp_path, capfd):
    output = os.fsdecode(os.fsencode(tmp_path) + b"/Z\xfcrich.jsonl")
    arguments = ("extended-data", "export", "--imodel", IMODEL, "--emulator", "--output", output)
    assert called(*arguments) == 0
    record = json.loads(capfd.readouterr().out)
    assert record["output"].endswith(r"/Z\xfcrich.jsonl")
    assert Path(output).exists()


@pytest.mark.parametrize(
    "error",
    [
        UnicodeEncodeError("utf-8", "\udcff", 0, 1, "surrogates not allowed"),
        type("ArrowInvalid", (ValueError,), {})("not a file of Arrow"),
    ],
)
def test_a_value_error_from_inside_is_no_wrong_usage(platform, monkeypatch, capfd, error):
    async def fails(*_, **__):
        raise error

    monkeypatch.setattr(IModels, "get_imodel", fails)
    assert called("imodels", "show", IMODEL, "--emulator") == 1
    assert capfd.readouterr().err.startswith("itwin-async: ")


def test_a_value_error_of_another_library_is_no_wrong_usage(platform, monkeypatch, capfd):
    async def fails(*_, **__):
        return logging.Formatter(style="?")  # ValueError

    monkeypatch.setattr(IModels, "get_imodel", fails)
    assert called("imodels", "show", IMODEL, "--emulator") == 1
    assert capfd.readouterr().err.startswith("itwin-async: Style must be")


# Standard error


@pytest.mark.slow
@pytest.mark.parametrize(
    ("to", "unbuffered"), [("2>&-", ""), ("2>/dev/full", ""), ("2>/dev/full", "1")]
)
@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (f"imodels show {IMODEL[:-1]}0 --emulator --verbose", 3),
        ("nope", 2),
        ("emulator --nope", 2),
        ("emulator --itwins 0", 2),
        ("itwins list --emulator --verbose", 0),
    ],
)
def test_a_message_that_cannot_be_written_changes_no_exit_code(to, unbuffered, arguments, code):
    name = f"{sys.executable} -m itwin_async"
    ended = subprocess.run(
        f"{name} {arguments} {to}", shell=True, env=environment({"PYTHONUNBUFFERED": unbuffered}),
        stdout=subprocess.PIPE, timeout=60, check=False,
    )  # fmt: skip
    assert ended.returncode == code
    assert bool(ended.stdout) is (code == 0)


@pytest.mark.slow
def test_a_full_pipe_of_messages_that_does_not_block_changes_no_exit_code():
    reader, writer = pipe_that_does_not_block()
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(writer, b"x" * 65_536)
    process = start("nope", stdout=subprocess.DEVNULL, stderr=writer)
    assert process.wait(60) == 2
    os.close(writer)
    os.close(reader)


def test_a_progress_bar_that_cannot_be_drawn_changes_nothing(platform, monkeypatch, capfd):
    class Closed(io.TextIOWrapper):
        def isatty(self) -> bool:
            return True

    with Closed(Path("/dev/full").open("wb", buffering=0), "utf-8") as stderr:
        monkeypatch.setattr(sys, "stderr", stderr)
        assert called(*LIST, "--emulator") == 0
    assert len(capfd.readouterr().out.splitlines()) == 400


def test_messages_stand_above_the_progress_bar():
    drawn = io.StringIO()
    console = Console(file=drawn, force_terminal=True, width=80)
    with contextlib.redirect_stderr(io.StringIO()) as beside, Progress(console=console):
        Stderr().write("a message\n")
    assert "a message" in drawn.getvalue()
    assert beside.getvalue() == ""


def test_a_message_is_escaped_where_it_cannot_be_encoded(monkeypatch):
    out = io.BytesIO()
    monkeypatch.setattr(sys, "stderr", io.TextIOWrapper(out, "ascii", errors="strict"))
    as_file(Stderr()).write("Zürich \udcff\n")
    assert out.getvalue() == b"Z\\xfcrich \\udcff\n"


# A directory that is gone, an environment that is empty


def test_a_current_directory_that_is_gone_is_named(platform, monkeypatch, tmp_path, capfd):
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    assert called("itwins", "list", "--emulator") == 0
    assert len(capfd.readouterr().out.splitlines()) == 5
    export = ("extended-data", "export", "--imodel", IMODEL, "--emulator", "--output", "x.jsonl")
    assert called(*export) == 1
    message = "itwin-async: the current directory: No such file or directory\n"
    assert capfd.readouterr().err == message


@pytest.mark.parametrize("terminal", [True, False])
def test_an_empty_environment_is_enough(platform, monkeypatch, capfd, terminal):
    for name in list(os.environ):
        monkeypatch.delenv(name)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: terminal)
    assert called("itwins", "list", "--emulator") == 0
    out, err = capfd.readouterr()
    assert (len(out.splitlines()) >= 5, err) == (True, "")


# The process is afterwards as it was


def state() -> dict[str, object]:
    logger = logging.getLogger("itwin_async")
    return {
        "handlers": list(logger.handlers),
        "level": logger.level,
        "root": (list(logging.root.handlers), logging.root.level),
        "signals": {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)},
        "warnings": list(warnings.filters),
        "streams": (sys.stdin, sys.stdout, sys.stderr),
        "hooks": (sys.excepthook, threading.excepthook, sys.unraisablehook),
        "directory": Path.cwd(),
        "environment": dict(os.environ),
        "threads": threading.active_count(),
    }


CALLS = {
    "list": ("itwins", "list", "--emulator", "--verbose"),
    "not found": ("imodels", "show", f"{IMODEL[:-1]}0", "--emulator", "--verbose"),
    "wrong usage": ("nope",),
    "help": ("--help",),
    "emulator": ("emulator", "--host", "nowhere.invalid."),
}


@pytest.mark.parametrize("arguments", CALLS.values(), ids=CALLS)
@pytest.mark.parametrize("missing", [(), ("stdin", "stderr")])
def test_main_leaves_the_process_as_it_was(platform, capfd, monkeypatch, arguments, missing):
    logging.getLogger("itwin_async").setLevel(logging.ERROR)
    mine = signal.signal(signal.SIGTERM, lambda *_: None)
    for name in missing:
        monkeypatch.setattr(sys, name, None)
    loop = asyncio.get_event_loop()  # the thread's current one
    try:
        before = state()
        lines = []
        for _ in range(2):
            called(*arguments)
            lines.append(len(capfd.readouterr().err.splitlines()))
        assert state() == before
        assert asyncio.get_event_loop() is loop
        assert lines[0] == lines[1]
    finally:
        signal.signal(signal.SIGTERM, mine)
        logging.getLogger("itwin_async").setLevel(logging.NOTSET)


def test_main_runs_in_a_thread(platform, capfd):
    before, codes = state(), []

    def run() -> None:
        try:
            main(["itwins", "list", "--emulator", "--verbose"])
        except SystemExit as ended:
            codes.append(ended.code)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join(60)
    assert codes == [0]
    assert len(capfd.readouterr().out.splitlines()) == 5
    assert state() == before


async def test_main_refuses_to_run_in_an_event_loop(platform, capfd):
    assert called("itwins", "list", "--emulator") == 1
    message = "itwin-async: the command line cannot run inside an event loop: use the library, or"
    assert capfd.readouterr().err.startswith(message)
    await asyncio.to_thread(called, "itwins", "list", "--emulator")
    assert len(capfd.readouterr().out.splitlines()) == 5
