"""Workers and drivers that are killed: nothing is lost, nothing twice, and never too many requests.

Its scenarios wait for a minute each, the one that a share waits when it has moved. So they run
beside each other, and the tests check the results.
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ingested
import pyarrow as pa
import pytest
from clusters import pids, processes
from emulated import Arrived, Platform, most_in, until
from ingested import keys_of, raw_bytes, rows_of

from itwin_async import ITwinSession, StaticToken
from itwin_async.distributed import Ingested, ingest_extended_data
from itwin_async.export import export_extended_data

PLATFORM = {"imodels": 200, "changesets": 1_000, "itwins": 5}
PER_MINUTE = 240


@dataclass(frozen=True)
class Happened:
    """A scenario: what it gave, the requests of it, and the moments that matter."""

    found: Any
    rows: pa.Table
    arrived: list[Arrived]
    at: dict[str, float]
    files: list[str]


def big(home: Path) -> Happened:
    """200 iModels of 1,000 entries, on three workers of which two are killed, with a pause."""
    at: dict[str, float] = {}
    with Platform(**PLATFORM, latency=0.2) as platform, processes(platform, 3) as client:
        itwins = {item["itwin_id"] for item in platform.ask("imodels")}
        platform.ask("forget")

        def disturb() -> None:
            platform.wait_for(6)
            platform.ask("throttle one", seconds=2)  # the next one, whenever it comes
            # A worker that is killed before its 429 has left the server is not throttled.
            until(lambda: any(item.status == 429 for item in platform.arrived()))
            platform.wait_for(14)
            for pid in pids(client)[:2]:
                os.kill(pid, signal.SIGKILL)
            at["killed"] = time.monotonic()

        disturbing = threading.Thread(target=disturb)
        disturbing.start()
        at["began"] = time.monotonic()
        found = ingest_extended_data(
            client,
            ingested.provider,
            [],
            home,
            itwin_ids=itwins,
            per_minute=PER_MINUTE,
            concurrency=9,
            batch_entries=10_000,
            show_progress=False,
        )
        at["ended"] = time.monotonic()
        disturbing.join()
        return happened(found, platform, at, home)


def happened(found: Any, platform: Platform, at: dict[str, float], home: Path) -> Happened:
    paths = [str(path) for path in home.glob("part-*.parquet")]
    names = sorted(path.name for path in home.iterdir())
    return Happened(found, rows_of(paths), platform.arrived(), at, names)


def lonely(home: Path) -> Happened:
    """The only worker is killed: another one takes its place, and its share."""
    at: dict[str, float] = {}
    with Platform(imodels=30, changesets=20, latency=0.2) as platform:
        imodel_ids = [item["id"] for item in platform.ask("imodels")]
        platform.ask("forget")
        with processes(platform, 1) as client:

            def kill() -> None:
                platform.wait_for(9)
                os.kill(pids(client)[0], signal.SIGKILL)
                at["killed"] = time.monotonic()

            killing = threading.Thread(target=kill)
            killing.start()
            found = ingest_extended_data(
                client,
                ingested.provider,
                imodel_ids,
                home,
                per_minute=6_000,
                concurrency=2,
                batch_entries=100,
                show_progress=False,
            )
            killing.join()
        return happened(found, platform, at, home)


def driverless(home: Path) -> Happened:
    """The driver is killed, and another one started, while the cluster lives on."""
    at: dict[str, float] = {}
    with Platform(imodels=30, changesets=20, latency=0.2) as platform:
        imodel_ids = [item["id"] for item in platform.ask("imodels")]
        platform.ask("forget")
        with processes(platform, 2) as client:
            how = {
                "scheduler": client.scheduler.address,
                "imodel_ids": imodel_ids,
                "destination": str(home),
                "per_minute": 6_000,
                "concurrency": 2,
                "batch_entries": 100,
                "show_progress": False,
            }
            command = [sys.executable, ingested.__file__, json.dumps(how)]
            first = subprocess.Popen(command, stdout=subprocess.PIPE)
            until(lambda: len(done_in(home)) >= 2)
            first.kill()
            first.communicate()
            at["killed"] = time.monotonic()
            at["done"] = len(done_in(home))
            run = json.loads((home / "manifest.json").read_text())["run"]
            (home / f"part-{run}-of-no-batch.parquet").write_bytes(b"stray")
            (home / f"new-{run}-of-no-batch").write_bytes(b"stray")
            second = subprocess.run(command, stdout=subprocess.PIPE, check=True)
        return happened(json.loads(second.stdout), platform, at, home)


def done_in(home: Path) -> list[str]:
    """The iModels that a manifest has as done, with what was added to it."""
    manifest = home / "manifest.json"
    batches = json.loads(manifest.read_text())["batches"] if manifest.exists() else []
    batches += [json.loads(path.read_text())["batch"] for path in home.glob("done-*.json")]
    return [item for batch in batches if batch["rows"] is not None for item in batch["imodels"]]


@pytest.fixture(scope="module")
def scenarios() -> Iterator[dict[Callable[..., Happened], Future[Happened]]]:
    with tempfile.TemporaryDirectory() as home, ThreadPoolExecutor() as threads:
        yield {
            item: threads.submit(item, Path(home, item.__name__))
            for item in (big, lonely, driverless)
        }


@pytest.fixture(scope="module")
def big_one(scenarios: dict[Callable[..., Happened], Future[Happened]]) -> Happened:
    return scenarios[big].result(300)


def test_every_entry_of_a_large_itwin_is_there_once(big_one):
    assert isinstance(big_one.found, Ingested)
    assert big_one.found.failures == {}
    assert (big_one.found.rows, big_one.found.imodels) == (200_000, 200)
    assert big_one.found.rows == big_one.rows.num_rows
    assert len(set(keys_of(big_one.rows))) == 200_000


def test_workers_were_killed_in_mid_batch_and_throttled(big_one):
    lists = [item for item in big_one.arrived if item.operation == "list_extended_data"]
    assert len([item for item in lists if item.status == 429]) >= 1
    done = [item for item in lists if item.status == 200]
    assert len(done) > 200  # some were asked for twice: their worker had died with them
    assert big_one.at["began"] < big_one.at["killed"] < big_one.at["ended"]


def test_no_minute_at_the_server_holds_more_than_the_limit(big_one, capsys):
    most = most_in(big_one.arrived)
    with capsys.disabled():
        sys.stderr.write(
            f"\n{len(big_one.arrived)} requests in "
            f"{big_one.at['ended'] - big_one.at['began']:.0f} s, at most {most} in a minute\n"
        )
    assert most <= PER_MINUTE
    assert most > PER_MINUTE / 2  # and it was a limit


async def test_the_rows_are_byte_for_byte_those_of_one_process(big_one, tmp_path):
    with Platform(**PLATFORM) as platform:
        base = platform.environment["ITWIN_BASE_URL"]
        ids = [item["id"] for item in platform.ask("imodels")]
        token = platform.ask("token")
        async with ITwinSession(StaticToken(token), base_url=base) as itwin:
            exported = await export_extended_data(itwin, ids, tmp_path / "one.parquet")
    one = rows_of([exported.output])
    assert one.num_rows == 200_000
    assert raw_bytes(one) == raw_bytes(big_one.rows)


def test_who_takes_the_place_of_a_killed_worker_waits_for_a_minute(scenarios):
    lonely_one: Happened = scenarios[lonely].result(200)
    killed = lonely_one.at["killed"]
    # What was on its way at that moment may still arrive.
    next_one = min(item.started for item in lonely_one.arrived if item.started > killed + 1)
    assert 60 <= next_one - killed < 100


def test_a_batch_that_runs_twice_leaves_one_part(scenarios):
    lonely_one: Happened = scenarios[lonely].result(200)
    twice = [
        item.imodel_id for item in lonely_one.arrived if item.operation == "list_extended_data"
    ]
    assert len(twice) > 30
    assert (lonely_one.found.rows, lonely_one.found.failures) == (600, {})
    keys = keys_of(lonely_one.rows)
    assert len(keys) == len(set(keys)) == 600
    assert len(lonely_one.files) == 1 + len(lonely_one.found.paths)


def test_a_driver_that_was_killed_goes_on_from_the_manifest(scenarios):
    driverless_one: Happened = scenarios[driverless].result(200)
    rows, bad, imodels, parts = driverless_one.found
    assert (rows, bad, imodels) == (600, 0, 30)
    keys = keys_of(driverless_one.rows)
    assert len(keys) == len(set(keys)) == 600
    killed = driverless_one.at["killed"]
    later = [item for item in driverless_one.arrived if item.started > killed + 30]
    assert later, "nothing was left to do"
    assert min(item.started for item in later) - killed > 60
    assert len(later) <= 30 - driverless_one.at["done"]
    assert {item.operation for item in later} == {"list_extended_data"}
    assert len(driverless_one.files) == 1 + parts  # strays are gone
