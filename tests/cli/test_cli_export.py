"""`extended-data export`: one line for people, one file, and how to go on."""

import asyncio
import json
import re
import signal
import sys
from collections.abc import AsyncIterator
from datetime import timedelta
from types import SimpleNamespace

import pytest
from terminal import COMMAND, QUICK, environment, in_terminal, run

from itwin_async import RateLimited, Stats
from itwin_async.cli import _meter
from itwin_async.cli._meter import Meter, RateLimitWatch
from itwin_async.emulator import Delay, Edit, Emulator, Reset, Status, Throttle

pytestmark = pytest.mark.slow  # a process for each test

ITWIN = "dc914a84-e0c9-40e2-9d14-faf5ed84147f"
IMODEL = "5e19bee0-3aea-4355-a9f0-c6df9989ee7d"
EXPORT = ("extended-data", "export")


def rows(path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


async def test_every_imodel_of_an_itwin_goes_to_one_file(emulator, tmp_path):
    output = tmp_path / "rows.jsonl"
    ended = await run(
        *EXPORT, "--itwin", ITWIN, "--output", str(output), variables=emulator.environment
    )
    assert (ended.code, ended.err) == (0, "")
    record = {"output": str(output), "rows": 150, "bad": 0, "imodels": 6, "bad_rows": None}
    assert json.loads(ended.out) == record
    found = rows(output)
    assert len({(row["imodel_id"], row["changeset_id"]) for row in found}) == 150
    assert list(found[0]) == ["imodel_id", "changeset_index", "changeset_id", "data"]


@pytest.fixture
async def emulator() -> AsyncIterator[Emulator]:
    """All iModels in one iTwin."""
    async with Emulator(itwins=3, imodels=6, changesets=25) as running:
        yield running


async def test_several_imodels_may_be_named(emulator, tmp_path):
    variables = emulator.environment
    listed = await run("imodels", "list", ITWIN, "--limit", "2", variables=variables)
    ids = [json.loads(line)["id"] for line in listed.out.splitlines()]
    output = tmp_path / "rows"
    ended = await run(
        *EXPORT, "--imodel", *ids, "--format", "jsonl", "--since", "20", "--output", str(output),
        variables=variables,
    )  # fmt: skip
    assert (ended.code, ended.err) == (0, "")
    assert {(row["imodel_id"], row["changeset_index"]) for row in rows(output)} == {
        (imodel, index) for imodel in ids for index in range(21, 26)
    }


async def test_parquet_needs_one_option_less(emulator, tmp_path):
    output = tmp_path / "rows.parquet"
    ended = await run(
        *EXPORT, "--imodel", IMODEL, "--output", str(output), variables=emulator.environment
    )
    assert (ended.code, ended.err) == (0, "")
    assert output.read_bytes()[:4] == b"PAR1"


async def test_missing_pyarrow_is_a_line(tmp_path):
    code = "import sys; sys.modules['pyarrow'] = None; import itwin_async.cli as c; c.main()"
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", code, *EXPORT, "--imodel", IMODEL, "--emulator",
        "--output", str(tmp_path / "rows.parquet"),
        env=environment(), stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    _, err = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == 1
    assert err.startswith(b"itwin-async: parquet needs pyarrow: pip install")
    assert err.count(b"\n") == 1


async def test_bad_payload_is_counted_and_code_6(emulator, tmp_path):
    def spoil(page):
        page["extendedData"][1]["data"] = "?"

    emulator.faults.add("list_extended_data", Edit(spoil))
    output = tmp_path / "rows.jsonl"
    ended = await run(
        *EXPORT, "--imodel", IMODEL, "--output", str(output), variables=emulator.environment
    )
    assert ended.code == 6
    assert json.loads(ended.out)["bad"] == 1
    where = json.loads(ended.out)["bad_rows"]
    assert ended.err == f"itwin-async: bad payloads left out: 1, see {where}\n"
    assert len(rows(output)) == 24


async def test_an_imodel_that_fails_is_left_out_with_keep_going(emulator, tmp_path):
    path = f"/imodels/{IMODEL}/"
    emulator.faults.add(lambda request: request.path.startswith(path), Status(403), times=None)
    output = tmp_path / "rows.jsonl"
    ended = await run(
        *EXPORT, "--itwin", ITWIN, "--keep-going", "--output", str(output),
        variables=emulator.environment,
    )  # fmt: skip
    assert ended.code == 6
    assert json.loads(ended.out)["failed"] == [IMODEL]
    assert ended.err.startswith(f"itwin-async: iModel {IMODEL} is left out: 403 ")
    assert ended.err.count("\n") == 1
    assert len(rows(output)) == 125


@pytest.mark.parametrize(
    ("fault", "code"),
    [(Status(503), 1), (Throttle(3_600), 5), (Status(401), 4), (Reset(), 1)],
    ids=lambda value: type(value).__name__,
)
async def test_an_error_of_every_imodel_is_never_left_out(emulator, tmp_path, fault, code):
    path = f"/imodels/{IMODEL}/"
    emulator.faults.add(lambda request: request.path.startswith(path), fault, times=None)
    output = tmp_path / "rows.jsonl"
    command = (*EXPORT, "--itwin", ITWIN, "--keep-going", "--output", str(output))
    ended = await run(*command, variables=emulator.environment, command=QUICK)
    assert (ended.code, ended.out) == (code, "")
    assert ended.err.count("\n") == 1
    assert "left out" not in ended.err
    assert not output.exists()
    emulator.faults.clear()
    ended = await run(*command, variables=emulator.environment)
    assert (ended.code, len(rows(output))) == (0, 150)


async def test_a_second_export_to_the_same_file_is_a_line(emulator, tmp_path):
    emulator.faults.add("list_extended_data", Delay(60), times=None)
    command = (*EXPORT, "--imodel", IMODEL, "--output", str(tmp_path / "rows.jsonl"))
    variables = emulator.environment
    process = await asyncio.create_subprocess_exec(*COMMAND, *command, env=environment(variables))
    try:
        async with asyncio.timeout(60):
            while not emulator.count("list_extended_data"):  # it has the file by then
                await asyncio.sleep(0.05)
        ended = await run(*command, variables=variables)
    finally:
        process.kill()
        await process.wait()
    assert ended.code == 1
    assert ended.err.startswith("itwin-async: another export to ")
    assert ended.err.count("\n") == 1


@pytest.mark.parametrize(
    ("fault", "code", "advice"),
    [
        (Status(503), 1, True),
        (Reset(), 1, True),
        (Throttle(3_600), 5, True),
        (Status(403), 4, False),
    ],
)
async def test_error_advises_to_go_on_where_that_helps(emulator, tmp_path, fault, code, advice):
    emulator.faults.add("list_extended_data", fault, times=None)
    ended = await run(
        *EXPORT, "--imodel", IMODEL, "--output", str(tmp_path / "rows.jsonl"),
        variables=emulator.environment, command=QUICK,
    )  # fmt: skip
    assert ended.code == code
    assert ended.err.count("\n") == 1
    assert ended.err.endswith(". Run the same command again to go on.\n") is advice


async def test_no_error_advises_to_run_again_what_would_begin_anew(emulator, tmp_path):
    emulator.faults.add("list_extended_data", Throttle(3_600), times=None)
    ended = await run(
        *EXPORT, "--imodel", IMODEL, "--output", str(tmp_path / "rows.jsonl"), "--no-resume",
        variables=emulator.environment, command=QUICK,
    )  # fmt: skip
    assert ended.code == 5
    assert "to go on" not in ended.err


async def test_stopped_export_goes_on_when_it_is_run_again(tmp_path):
    output = tmp_path / "rows.jsonl"
    command = (*EXPORT, "--imodel", IMODEL, "--output", str(output))
    async with Emulator(imodels=1, changesets=50, max_top=5) as emulator:
        emulator.faults.add("list_extended_data", Delay(60), after=4, times=None)
        variables = emulator.environment
        process = await asyncio.create_subprocess_exec(
            *QUICK, *command, env=environment(variables), stderr=asyncio.subprocess.PIPE
        )
        async with asyncio.timeout(60):
            while not any(tmp_path.rglob("0*.jsonl")):  # the first part is stored
                await asyncio.sleep(0.02)
            process.send_signal(signal.SIGINT)
            _, err = await process.communicate()
        assert process.returncode == 130
        assert err == b"Run the same command again to go on.\n"
        assert not output.exists()
        emulator.faults.clear()
        ended = await run(*command, variables=variables)
    assert (ended.code, ended.err) == (0, "")
    assert [row["changeset_index"] for row in rows(output)] == list(range(1, 51))
    assert not any(tmp_path.rglob("0*.jsonl"))


def test_terminal_shows_how_far_it_is(tmp_path):
    output = tmp_path / "rows.jsonl"
    command = (*EXPORT, "--emulator", "--imodel", IMODEL, "--output", str(output))
    code, screen = in_terminal(*command, command=QUICK)
    assert code == 0
    counts = re.findall(r"0/1 iModels · ([\d,]+) rows · ", screen)
    assert any(0 < int(count.replace(",", "")) <= 2_000 for count in counts)
    assert "/s · 0:0" in screen
    assert "2000" in screen.splitlines()[-3]


def test_meter_shows_rate_pauses_and_time(monkeypatch):
    watch = RateLimitWatch()

    def itwin(pauses: int):
        return SimpleNamespace(stats=Stats(pauses=pauses), rate_limit=watch)

    monkeypatch.setattr(_meter.time, "monotonic", lambda: 1_065.0)
    meter = Meter("rows", count=7_500, before=1_000, parts="iModels", total=14, started=1_000.0)
    assert meter.figures(itwin(0)) == "0/14 iModels · 7,500 rows · 100/s · 1:05"
    meter.bad, meter.parts = 2, ""
    for seconds in (5.0, 29.6, 10.0):
        watch.on_event(RateLimited("GET /", seconds, "id"))
    assert meter.figures(itwin(2)) == (
        "7,500 rows · 100/s · 2 bad · 2 pauses · goes on in 30 s · 1:05"
    )


@pytest.mark.slow  # four processes
async def test_dry_run_says_what_an_export_would_cost(tmp_path):
    output = tmp_path / "rows.jsonl"
    words = (*EXPORT, "--itwin", ITWIN, "--output", str(output), "--page-size", "20", "--dry-run")
    async with Emulator(imodels=5, changesets=50, extended_data_every=1) as emulator:
        emulator.push_changeset(IMODEL)
        ended = await run(*words, variables=emulator.environment)
        assert (ended.code, ended.err) == (0, "")
        # A list of iModels, and three pages of each.
        assert json.loads(ended.out) == {
            "imodels": 2, "changesets": 101, "requests": 7, "asked": 3,
        }  # fmt: skip
        # Where there is no earlier export to add to, the whole lists are read for what is wanted.
        since = await run(*words, "--since", "45", variables=emulator.environment)
        assert json.loads(since.out) == {
            "imodels": 2, "changesets": 11, "requests": 7, "asked": 3,
        }  # fmt: skip
        assert not list(tmp_path.iterdir())
        before = len(emulator.requests)
        ended = await run(*words[:-1], variables=emulator.environment)
        assert ended.code == 0
        sent = [request for request in emulator.requests[before:] if request.operation != "token"]
        assert len(sent) == 7
        since = await run(*words, "--since", "45", variables=emulator.environment)
        assert json.loads(since.out)["requests"] == 3

        emulator.faults.add(lambda request: request.path.startswith(f"/imodels/{IMODEL}/"),
                            Status(403), times=None)  # fmt: skip
        refused = await run(*words, variables=emulator.environment)
        assert refused.code == 4
        kept = await run(*words, "--keep-going", variables=emulator.environment)
        assert kept.code == 6
        assert json.loads(kept.out)["changesets"] == 50


@pytest.mark.slow  # three processes
async def test_since_a_date_with_the_changesets_costs_what_it_estimated(tmp_path):
    output = tmp_path / "rows.jsonl"
    async with Emulator(imodels=5, changesets=50, extended_data_every=1) as emulator:
        day = (emulator.now - timedelta(days=6)).date()
        words = (*EXPORT, "--imodel", IMODEL, "--output", str(output), "--page-size", "20",
                 "--since", str(day), "--changesets")  # fmt: skip
        estimate = await run(*words, "--dry-run", variables=emulator.environment)
        assert estimate.code == 0
        before = len(emulator.requests)
        ended = await run(*words, variables=emulator.environment)
        assert (ended.code, ended.err) == (0, "")
        sent = [request for request in emulator.requests[before:] if request.operation != "token"]
        # The newest changesets, the list of extended data in three pages, and the changesets.
        assert json.loads(estimate.out)["requests"] == len(sent) == 5
        rows = [json.loads(line) for line in output.read_text().splitlines()]
        assert 0 < len(rows) < 50
        assert all(row["push_date_time"][:10] >= str(day) for row in rows)
    wrong = await run(*words[:-2], "lately")
    assert wrong.code == 2
    assert "a date such as 2025-01-31" in wrong.err
