"""What a terminal gets: whole ids at any width, no control characters, no signature."""

import base64
import io
import json
import re
import sys
import time
from datetime import UTC, datetime

import pytest
from rich.console import Console
from terminal import in_terminal

from itwin_async._core.redaction import unsigned_value
from itwin_async.cli import _emulated, main
from itwin_async.cli._cells import list_row
from itwin_async.cli._tables import list_table, record_table
from itwin_async.cli._text import escaped
from itwin_async.emulator import Edit, Emulator, Status

ITWIN = "dc914a84-e0c9-40e2-9d14-faf5ed84147f"
IMODEL = "5e19bee0-3aea-4355-a9f0-c6df9989ee7d"
CHANGESET = "78c09f3337370b26acabead1790d77b2a6ebc6ee"
HOSTILE = "a\x1b[31m\x9b31m\u202eb\u2066"
CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
SIGNED = [
    "https://h/a?sig=canary",
    "HTTPS://h/a?sig=canary",
    "https://h/a'b?sig=canary",
    'https://h/a"b?sig=canary',
    "https://h/<a>?sig=canary",
    "https://h/a?x'y\"z<&sig=canary",
    "see https://h/a'b?sig=canary and",
    'see https://h/a"b?sig=canary and',
    'see "https://h/a?sig=canary" and',
    r'{"a": "https:\/\/h\/a?sig=canary", "b": 1}',
    r'{"a": "https://h/a\"b?x\",sig=canary", "b": 1}',
    "{'a': 'https://h/a?sig=canary', 'b': 1}",
    "https://h/a b?sig=canary",
]


def shown(renderable, width: int) -> list[str]:
    screen = Console(file=io.StringIO(), width=width)
    screen.print(renderable)
    return [line.rstrip() for line in screen.file.getvalue().splitlines()]


def table(width: int, **more: object) -> list[str]:
    row = {"displayName": "Sun City Renewable-energy Plant " * 3, "id": IMODEL, **more}
    return shown(list_table(tuple(row), [list_row(tuple(row), row)] * 2, width), width)


@pytest.mark.parametrize("width", range(40, 161, 4))
def test_ids_are_whole_at_any_width(width):
    more = {"state": "initialized", "description": "of a plant " * 9, "creatorId": ITWIN}
    text = table(width, **more)
    assert sum(IMODEL in line for line in text) == 2
    assert max(map(len, text)) <= width
    record = shown(record_table({"id": CHANGESET, "imodel_id": IMODEL, "name": "x"}, width), width)
    assert sum(id in line for line in record for id in (CHANGESET, IMODEL)) == 2


def test_a_table_folds_names_and_cuts_descriptions():
    text = table(80, description="of a plant " * 9)
    assert text[0].split() == ["displayName", "id", "description"]
    assert text[1].endswith("…")
    assert " ".join(line[:28].strip() for line in text).count("Renewable-energy Plant") == 6


def test_what_a_table_leaves_out_is_named_and_comes_from_the_right():
    text = table(58, state="initialized", description="of a plant")
    assert text[0].split() == ["displayName", "id"]
    assert "Too narrow for: state, description. See --json." in text[-1]


def test_where_no_table_fits_all_fields_stand_below_each_other():
    text = table(50, state="initialized")
    assert text.count(f"id           {IMODEL}") == text.count("state        initialized") == 2
    assert "state" in table(40, state="initialized")


def test_dates_in_a_table_are_short():
    moment = datetime(2024, 1, 8, 14, 3, 5, 4_651, tzinfo=UTC)
    assert list_row(("pushDateTime",), {"pushDateTime": moment}) == ["2024-01-08 14:03Z"]


@pytest.mark.parametrize(
    "arguments",
    [("changesets", "list", IMODEL), ("extended-data", "list", IMODEL), ("imodels", "list", ITWIN)],
)
@pytest.mark.parametrize("width", ["40", pytest.param("50", marks=pytest.mark.slow), "80"])
def test_terminal_shows_whole_ids(arguments, width):
    code, screen = in_terminal(
        *arguments, "--emulator", "--limit", "2", variables={"COLUMNS": width}
    )
    assert code == 0
    assert (IMODEL if arguments[0] == "imodels" else CHANGESET) in screen


@pytest.mark.parametrize("text", SIGNED)
def test_no_query_of_a_url_is_shown(text):
    assert "canary" not in unsigned_value(text)
    assert "canary" not in list_row(("x",), {"x": {"a": [text]}})[0]


@pytest.mark.parametrize("text", SIGNED)
@pytest.mark.parametrize("kind", [list, tuple])
def test_no_query_of_a_url_is_shown_in_a_record(text, kind):
    fields = {"a": text, "b": kind([{"c": text}, kind([text])]), "d": {text: {"e": kind([text])}}}
    assert "canary" not in "".join(shown(record_table(fields, 4_000), 4_000))


def test_what_follows_a_url_is_shown():
    assert unsigned_value('see "https://h/a?sig=canary", and') == 'see "https://h/a?…", and'
    assert unsigned_value('{"a":"https://h/a?b","c":1}') == '{"a":"https://h/a?…","c":1}'
    assert unsigned_value("is https://h/a there?") == "is https://h/a there?"


def test_a_long_text_of_urls_is_looked_at_once():
    def seconds(count: int) -> float:
        since = time.perf_counter()
        unsigned_value(" x" + "http://" * count)
        return time.perf_counter() - since

    # Eight times the text: eight times the time, and not sixty-four times.
    assert min(seconds(32_000) for _ in range(9)) < 40 * min(seconds(4_000) for _ in range(9))


def test_escaped_text_is_the_same_json():
    text = json.dumps({"a": f"{HOSTILE}é漢\U000e0001"}, ensure_ascii=False)
    assert escaped(text).isprintable()
    assert "é漢" in escaped(text)
    assert json.loads(escaped(text)) == json.loads(text)


@pytest.fixture
def hostile(monkeypatch: pytest.MonkeyPatch, capsysbinary: pytest.CaptureFixture[bytes]) -> None:
    """A platform that sends control characters, and a terminal (or a pipe) that gets them."""
    raw = HOSTILE.encode().replace(b"\x1b", rb"\u001b")
    payload = b'{"a": "%b", "n": 1.50, "e": 1E2}' % raw

    def platform() -> Emulator:
        def spoil(page):
            page["extendedData"][0]["data"] = base64.b64encode(payload).decode()

        emulator = Emulator(imodels=1, changesets=3)
        emulator.faults.add("list_extended_data", Edit(spoil), times=None)
        body = b'{"iTwins": [{"id": "1", "displayName": "%b", "n": 1.50}]}' % raw
        emulator.faults.add("list_itwins", Status(200, body=body), times=None)
        return emulator

    monkeypatch.setattr(_emulated, "emulator", platform)

    def run(*arguments: str, terminal: bool = True) -> str:
        monkeypatch.setattr(sys.stdout, "isatty", lambda: terminal)
        with pytest.raises(SystemExit) as ended:
            main([*arguments, "--emulator"])
        assert ended.value.code == 0
        return capsysbinary.readouterr().out.decode()

    return run


@pytest.mark.parametrize(
    "arguments",
    [
        ("request", "GET", "/itwins/"),
        ("request", "GET", "/itwins/", "--json"),
        ("itwins", "list"),
        ("itwins", "list", "--json"),
        ("extended-data", "list", IMODEL),
        ("extended-data", "list", IMODEL, "--json"),
    ],
)
def test_nothing_reaches_a_terminal_that_it_would_obey(hostile, arguments):
    screen = re.sub(r"\x1b\[[0-9;]*m", "", hostile(*arguments))
    assert "31m" in screen
    assert not CONTROL.search(screen)
    if arguments[0] == "request":
        (found,) = json.loads(screen)["iTwins"]
        assert found["displayName"] == HOSTILE
        assert "1.50" in screen


def test_a_pipe_gets_json_as_it_came(hostile):
    out = hostile("request", "GET", "/itwins/", terminal=False)
    assert "\x9b31m\u202eb\u2066" in out
    assert json.loads(out)["iTwins"][0]["displayName"] == HOSTILE


def test_extended_data_comes_out_digit_for_digit(hostile, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    first = hostile("extended-data", "list", IMODEL, terminal=False).splitlines()[0]
    assert '"n": 1.50, "e": 1E2' in first
    assert '"n": 1.50, "e": 1E2' in hostile("extended-data", "list", IMODEL, "--limit", "1")
