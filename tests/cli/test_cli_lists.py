"""Lists as CSV, what is said of empty ones, and one iTwin of them."""

import csv
import io
import json
from datetime import UTC, datetime

import pytest
from terminal import run

from itwin_async.cli import _emulated, main
from itwin_async.cli._cells import csv_line
from itwin_async.emulator import Edit, Emulator

ITWIN = "dc914a84-e0c9-40e2-9d14-faf5ed84147f"
ACCOUNT = "76c1102e-4f33-4dfa-ad93-bcd9ab717977"
IMODEL = "5e19bee0-3aea-4355-a9f0-c6df9989ee7d"
CHANGESETS = ("changesets", "list", IMODEL, "--last", "12", "--representation")


def printed(capsysbinary, *arguments, code=0):
    with pytest.raises(SystemExit) as ended:
        main([*arguments, "--emulator"])
    out, err = capsysbinary.readouterr()
    assert ended.value.code == code, err
    return out.decode() if code == 0 else err.decode()


def test_a_list_as_csv_has_all_fields_but_links(capsysbinary, monkeypatch):
    now = datetime(2026, 6, 1, tzinfo=UTC)  # of each command's own emulator, so that dates agree
    monkeypatch.setattr(_emulated, "emulator", lambda: Emulator(changesets=20, now=now))
    rows = list(csv.DictReader(io.StringIO(printed(capsysbinary, *CHANGESETS, "--output", "csv"))))
    lines = [json.loads(line) for line in printed(capsysbinary, *CHANGESETS).splitlines()]
    assert list(rows[0])[:4] == ["index", "id", "pushDateTime", "description"]
    assert len(rows) == len(lines) == 12
    for row, line in zip(rows, lines, strict=True):
        assert row.keys() == line.keys() - {"_links"}
        for name, text in row.items():
            value = line[name]
            if not isinstance(value, str):
                value = "" if value is None else json.dumps(value, separators=(",", ":"))
            assert text == value, name
    assert json.loads(rows[0]["application"])["id"] == "imodel-synchronizer"


def test_signed_links_do_not_go_into_csv(capsysbinary):
    assert "sig=" in printed(capsysbinary, *CHANGESETS)
    assert "sig=" not in printed(capsysbinary, *CHANGESETS, "--output", "csv")


@pytest.mark.slow
def test_extended_data_as_csv_has_its_payload_digit_for_digit(capsysbinary):
    arguments = ("extended-data", "list", IMODEL, "--limit", "3")
    rows = list(csv.reader(io.StringIO(printed(capsysbinary, *arguments, "--output", "csv"))))
    assert rows[0] == ["changeset_index", "changeset_id", "data", "imodel_id"]
    lines = [json.loads(line) for line in printed(capsysbinary, *arguments).splitlines()]
    assert [json.loads(row[2]) for row in rows[1:]] == [line["data"] for line in lines]


def test_an_empty_list_as_csv_is_a_header(capsysbinary):
    out = printed(capsysbinary, "itwins", "list", "--search", "nothing", "--output", "csv")
    assert out == "displayName,id,number,subClass\n"


@pytest.mark.parametrize(
    ("values", "line"),
    [
        (["a,b", 'say "x"', "two\nlines"], '"a,b","say ""x""","two\nlines"\n'),
        ([None, True, 1.5, {"a": [1]}, ""], ',true,1.5,"{""a"":[1]}",\n'),
        (["größe"], "größe\n"),
    ],
)
def test_a_line_of_csv(values, line):
    assert csv_line(values).decode() == line


def test_a_table_in_a_pipe_where_it_is_asked_for(capsysbinary):
    out = printed(capsysbinary, "itwins", "list", "--output", "table")
    assert out.splitlines()[0].split() == ["displayName", "id", "number", "subClass"]
    assert len(out.splitlines()) == 6


def test_json_and_output_exclude_each_other(capsysbinary):
    arguments = ("itwins", "list", "--json", "--output", "csv")
    assert "give one of --output and --json" in printed(capsysbinary, *arguments, code=2)


EMPTY = {
    ("itwins", "list", "--search", "nothing"): "No iTwins match.",
    ("imodels", "list", ITWIN, "--name", "nothing"): "No iModels match.",
    ("changesets", "list", IMODEL, "--after", "99999"): "No changesets in these bounds.",
    ("extended-data", "list", IMODEL, "--after", "99999"): "No extended data: no application has "
    "stored any with these changesets.",
}


@pytest.mark.parametrize(
    "arguments",
    [
        # The whole list is read, from an emulator as slow as the platform.
        pytest.param(item, marks=pytest.mark.slow) if item[0] == "extended-data" else item
        for item in EMPTY
    ],
)
def test_an_empty_list_says_what_may_be_wrong(arguments, capsysbinary):
    assert printed(capsysbinary, *arguments, "--output", "table") == f"{EMPTY[arguments]}\n"
    assert printed(capsysbinary, *arguments) == ""


@pytest.mark.slow  # a process
async def test_an_application_without_itwins_is_told_what_to_check():
    async with Emulator(imodels=1, changesets=1) as emulator:
        emulator.faults.add("list_itwins", Edit(lambda page: page["iTwins"].clear()))
        words = ("itwins", "list", "--output", "table")
        ended = await run(*words, variables=emulator.environment)
    assert ended.out == "No iTwins: is this application or person a member of one?\n"


def test_extended_data_after_an_index(capsysbinary):
    arguments = ("extended-data", "list", IMODEL, "--after", "7", "--limit", "3")
    lines = [json.loads(line) for line in printed(capsysbinary, *arguments).splitlines()]
    assert [line["changeset_index"] for line in lines] == [8, 9, 10]


def test_one_itwin(capsysbinary):
    shown = json.loads(printed(capsysbinary, "itwins", "show", ITWIN.upper()))
    assert (shown["id"], shown["status"]) == (ITWIN, "Active")
    account = json.loads(printed(capsysbinary, "itwins", "show", ITWIN, "--account"))
    assert account["id"] == ACCOUNT
    assert json.loads(printed(capsysbinary, "itwins", "show"))["id"] == ACCOUNT
    text = printed(capsysbinary, "itwins", "show", ITWIN[:-1] + "0", code=3)
    assert "among those that this application or person is a member of" in text
    assert "--account is for an iTwin" in printed(
        capsysbinary, "itwins", "show", "--account", code=2
    )
