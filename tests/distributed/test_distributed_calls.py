"""How it is called, what it gives, what it refuses."""

import asyncio
import functools
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

import ingested
import msgspec
import pyarrow.parquet as pq
import pytest
import terminal
from clusters import processes
from distributed import Client
from emulated import Platform
from ingested import Payload, keys_of, rows_of
from kernel import kernel
from support import Running

from itwin_async import ClientCredentials, StaticToken
from itwin_async.distributed import IngestProgress, ingest_extended_data

FAST = {"per_minute": 6_000, "batch_entries": 90, "show_progress": False}


def test_every_row_is_in_the_parts_once(client, imodel_ids, tmp_path):
    reports: list[IngestProgress] = []
    found = ingest_extended_data(
        client,
        ClientCredentials.from_env,
        imodel_ids,
        tmp_path / "out",
        on_progress=reports.append,
        **FAST,
    )
    assert (found.rows, found.bad, found.imodels, found.failures) == (360, 0, 12, {})
    assert len(found.paths) == 4
    rows = rows_of(found.paths)
    assert keys_of(rows) == [(item, index) for item in sorted(imodel_ids) for index in range(1, 31)]
    assert rows.schema.names == ["imodel_id", "changeset_index", "changeset_id", "data"]
    assert json.loads(rows["data"][0].as_py())["data"]["changedFiles"]
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == sorted(
        ["manifest.json", *(path.rpartition("/")[2] for path in found.paths)]
    )
    done = [item.done for item in reports]
    assert len(done) == 5 and done == sorted(done) and done[0] == 0
    assert reports[-1] == IngestProgress(batches=4, done=4, rows=360, bad=0, failed=0)


def test_imodels_are_found_by_their_itwins_and_payloads_become_columns(
    client, platform, imodel_ids, tmp_path
):
    itwins = {UUID(item["itwin_id"]) for item in platform.ask("imodels")}
    url = (tmp_path / "out").as_uri()
    one = [UUID(imodel_ids[0])]
    found = ingest_extended_data(
        client, ingested.provider, one, url, Payload, itwin_ids=itwins, **FAST
    )
    assert (found.rows, found.imodels) == (360, 12)
    assert all(path.startswith(f"{url}/part-") for path in found.paths)
    rows = rows_of([path.removeprefix("file://") for path in found.paths])
    assert rows["data"][0].as_py()["data"]["changedFiles"]


def test_a_relative_path_is_the_drivers(client, imodel_ids, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # the workers have other ones
    found = ingest_extended_data(client, ingested.provider, imodel_ids[:1], "out", **FAST)
    assert Path(found.paths[0]).parent == tmp_path / "out"
    assert pq.read_table(found.paths[0]).num_rows == 30


def test_nothing_is_an_empty_job(client, tmp_path):
    found = ingest_extended_data(client, ingested.provider, [], tmp_path, **FAST)
    assert (found.rows, found.imodels, found.paths, found.failures) == (0, 0, [], {})


async def test_an_asynchronous_client_awaits(client, imodel_ids, tmp_path):
    async with Client(client.scheduler.address, asynchronous=True, set_as_default=False) as own:
        found = await ingest_extended_data(own, ingested.provider, imodel_ids, tmp_path, **FAST)
    assert (found.rows, found.imodels) == (360, 12)


def sent(platform) -> int:
    return len(platform.arrived())


def quiet_after(platform, seconds: float = 1.0) -> bool:
    """No request comes any more, a second from now; one is late at most."""
    time.sleep(seconds)
    before = sent(platform)
    time.sleep(2)
    return sent(platform) == before


async def test_a_cancelled_task_leaves_no_crawl(slow, slow_client, tmp_path, cancel_kind):
    ids = [item["id"] for item in slow.ask("imodels")]
    slow.ask("forget")
    async with Client(slow_client.scheduler.address, asynchronous=True) as own:
        job = Running(
            cancel_kind,
            ingest_extended_data(own, ingested.provider, ids, tmp_path, concurrency=4, **FAST),
        )
        await asyncio.to_thread(slow.wait_for, 4)
        job.cancel()
        with pytest.raises(asyncio.CancelledError):
            await job
        assert await asyncio.to_thread(quiet_after, slow)
    assert not list(tmp_path.glob("part-*"))
    assert all(not names for names in slow_client.run(plugins_of).values())


def plugins_of(dask_worker):
    return [name for name in dask_worker.plugins if name.startswith("itwin_async")]


@pytest.fixture(scope="module")
def slow() -> Iterator[Platform]:
    with Platform(imodels=40, changesets=1, latency=0.5) as running:
        yield running


@pytest.fixture(scope="module")
def slow_client(slow: Platform) -> Iterator[Client]:
    with processes(slow, 2) as running:
        yield running


def test_ctrl_c_leaves_no_crawl(slow, slow_client, tmp_path):
    ids = [item["id"] for item in slow.ask("imodels")]
    slow.ask("forget")
    how = {"scheduler": slow_client.scheduler.address, "imodel_ids": ids, "concurrency": 4}
    driver = subprocess.Popen(
        [
            sys.executable,
            ingested.__file__,
            json.dumps(how | FAST | {"destination": str(tmp_path)}),
        ],
        stderr=subprocess.PIPE,
        text=True,
    )
    slow.wait_for(4)
    driver.send_signal(signal.SIGINT)
    errors = driver.communicate(timeout=30)[1]
    assert "did not stop within" not in errors  # it waits for the workers, and they stop
    assert driver.returncode != 0
    assert "KeyboardInterrupt" in errors
    assert quiet_after(slow)
    assert all(not names for names in slow_client.run(plugins_of).values())


def test_a_terminal_shows_the_bar(client, imodel_ids, tmp_path):
    how = {
        "scheduler": client.scheduler.address,
        "imodel_ids": imodel_ids,
        "destination": str(tmp_path),
        "per_minute": 6_000,
        "batch_entries": 90,
    }
    command = (sys.executable, ingested.__file__)
    code, screen = terminal.in_terminal(json.dumps(how), command=command)
    assert code == 0, screen
    assert re.search(r"batches .* 4/4 .*360 rows", screen), screen


async def test_a_notebook_shows_the_bar(client, imodel_ids, tmp_path):
    cell = f"""
import sys
sys.path.append({str(Path(__file__).parent)!r})
from distributed import Client
from itwin_async import ClientCredentials
from itwin_async.distributed import ingest_extended_data
client = Client({client.scheduler.address!r})
found = ingest_extended_data(
    client, ClientCredentials.from_env, {imodel_ids!r}, {str(tmp_path)!r},
    per_minute=6_000, batch_entries=90,
)
client.close()
"""
    async with kernel(tmp_path, {}) as running:
        await running.run(cell)
        outputs = await running.run("print(found.rows)")
        widgets = running.widgets("OutputModel")
        complaints = running.complaints()
    assert outputs[0].text == "360\n"
    assert "4/4" in str(widgets)
    assert complaints == ""


# What is refused


class Holder:
    def token(self) -> StaticToken:
        return StaticToken("canary-of-a-method")


HOLDER = Holder()
LOCAL = msgspec.defstruct("Local", [("task_id", str)], module="__main__")


@pytest.mark.parametrize(
    "provider",
    [
        StaticToken("canary-of-a-value"),
        ClientCredentials("client", "canary-of-a-value"),
        lambda: StaticToken("canary-of-a-lambda"),
        functools.partial(StaticToken, "canary-of-a-partial"),
        HOLDER.token,
        "ingested:provider",
        None,
    ],
    ids=["value", "credentials", "lambda", "partial", "method", "text", "none"],
)
def test_what_would_carry_its_secret_is_refused(client, tmp_path, provider):
    with pytest.raises(
        TypeError, match=r"^token_provider must be a function that workers can"
    ) as e:
        ingest_extended_data(client, provider, [], tmp_path, per_minute=10)
    assert "canary" not in str(e.value)
    assert "\n" not in str(e.value)


@pytest.mark.parametrize(
    ("wrong", "error", "says"),
    [
        ({"per_minute": 0}, ValueError, "per_minute must be at least 1, not 0"),
        ({"per_minute": 1.5}, TypeError, "per_minute must be an int, not float"),
        ({"concurrency": True}, TypeError, "concurrency must be an int, not bool"),
        ({"batch_entries": -1}, ValueError, "batch_entries must be at least 1, not -1"),
        ({"imodel_ids": "abc"}, TypeError, "imodel_ids must be an iterable of ids, not one str"),
        ({"itwin_ids": "abc"}, TypeError, "itwin_ids must be an iterable of ids, not one str"),
        ({"itwin_ids": UUID(int=1)}, TypeError, "must be an iterable of ids, not one UUID"),
        ({"data_type": LOCAL}, TypeError, "data_type must be a type that workers can import: put "),
        ({"max_idle": "1"}, TypeError, "max_idle must be a number of seconds, not str"),
        ({"max_idle": -1}, ValueError, "max_idle must be a number of seconds from 0, not -1"),
        ({"max_idle": float("nan")}, ValueError, "max_idle must be a number of seconds from 0"),
        ({"imodel_ids": [5]}, TypeError, "imodel_ids must be a str, not int"),
        ({"itwin_ids": ["a/b"]}, ValueError, "itwin_ids must be one path segment"),
        ({"look_back": -1}, ValueError, "look_back must be at least 0, not -1"),
        ({"settle": -1}, ValueError, "settle must be"),
        ({"checkpoint": 5}, TypeError, "checkpoint must be a str, not int"),
        ({"checkpoint": "1AA", "imodel_ids": ["a"]}, ValueError, "must be a checkpoint that this "),
        (
            {"checkpoint": "1AA", "itwin_ids": ["a", "b"]},
            ValueError,
            "give either one iTwin or imodel_ids",
        ),
        ({"data_type": 5}, TypeError, "Type '5' is not supported"),
        ({"on_progress": 5}, TypeError, "on_progress must be a plain callable, not int"),
        ({"client": None}, TypeError, "client must be a distributed.Client, not NoneType"),
    ],
    ids=str,
)
def test_what_cannot_be_is_refused(client, tmp_path, wrong, error, says):
    arguments = {
        "client": client,
        "token_provider": ingested.provider,
        "imodel_ids": [],
        "destination": tmp_path / "out",
        "per_minute": 10,
    } | wrong
    with pytest.raises(error, match=re.escape(says)):
        ingest_extended_data(**arguments)
    assert not (tmp_path / "out").exists()


def test_a_closed_client_is_refused(client, tmp_path):
    with Client(client.scheduler.address, set_as_default=False) as other:
        pass
    with pytest.raises(ValueError, match=r"^client must be connected .* this one is closed$"):
        ingest_extended_data(other, ingested.provider, [], tmp_path, per_minute=10)


def without_secret(dask_worker):
    return os.environ.pop("ITWIN_CLIENT_SECRET")


def with_secret(secret, dask_worker):
    os.environ["ITWIN_CLIENT_SECRET"] = secret


def test_a_variable_that_workers_miss_is_named(client, imodel_ids, tmp_path):
    secret = next(iter(client.run(without_secret).values()))
    try:
        with pytest.raises(ValueError, match="ITWIN_CLIENT_SECRET"):
            ingest_extended_data(client, ingested.provider, imodel_ids, tmp_path, **FAST)
    finally:
        client.run(with_secret, secret)
