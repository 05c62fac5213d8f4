"""Workers that fail or have all gone, and a scheduler that has: each is reported in time."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import ingested
import pytest
from clusters import processes
from distributed import Client
from emulated import Platform
from ingested import keys_of, rows_of

from itwin_async import UnauthorizedError
from itwin_async.distributed import _monitor, ingest_extended_data

FAST = {"per_minute": 6_000, "show_progress": False}


def set_variable(name, value, dask_worker):
    """What it was before."""
    before = os.environ.pop(name, None)
    if value is not None:
        os.environ[name] = value
    return before


@pytest.fixture(scope="module")
def slow() -> Iterator[Platform]:
    with Platform(imodels=12, changesets=10, itwins=3, latency=0.2) as running:
        yield running


@pytest.fixture(scope="module")
def slow_client(slow: Platform) -> Iterator[Client]:
    with processes(slow, 2) as running:
        yield running


@pytest.fixture
def slow_imodel_ids(slow: Platform) -> list[str]:
    slow.ask("forget")
    found = [item["id"] for item in slow.ask("imodels")]
    slow.ask("forget")
    return found


@pytest.mark.parametrize("secret", ["wrong", None], ids=["wrong", "missing"])
def test_a_worker_without_tokens_takes_no_batch_from_the_other(
    slow, slow_client, slow_imodel_ids, tmp_path, secret, caplog
):
    itwins = {item["itwin_id"] for item in slow.ask("imodels")}
    # The first one, which discovers the iModels too.
    bad = next(iter(slow_client.run(os.getpid)))
    before = slow_client.run(set_variable, "ITWIN_CLIENT_SECRET", secret, workers=[bad])[bad]
    try:
        found = ingest_extended_data(
            slow_client,
            ingested.provider,
            [],
            tmp_path,
            itwin_ids=itwins,
            batch_entries=10,  # as many batches as iModels
            concurrency=2,
            **FAST,
        )
    finally:
        slow_client.run(set_variable, "ITWIN_CLIENT_SECRET", before, workers=[bad])
    assert (found.rows, found.imodels, found.failures) == (120, 12, {})
    assert len(keys_of(rows_of(found.paths))) == 120
    assert list(found.stopped_workers) == [bad]
    assert ("ITWIN_CLIENT_SECRET" if secret is None else "invalid_client") in found.stopped_workers[
        bad
    ]
    assert f"worker at {bad} is stopped" in caplog.text
    assert caplog.text.count("A batch failed at the worker") == 3


def test_a_provider_may_fail_on_its_first_call(client, imodel_ids, tmp_path, caplog):
    found = ingest_extended_data(
        client, ingested.provider_that_fails_first, imodel_ids, tmp_path, batch_entries=90, **FAST
    )
    assert (found.rows, found.imodels, found.failures) == (360, 12, {})
    assert "RuntimeError: the vault is away" in caplog.text


def test_when_every_worker_fails_the_job_ends_with_the_reason(
    client, platform, imodel_ids, tmp_path, short_minute
):
    first = ingest_extended_data(client, ingested.provider, imodel_ids[:2], tmp_path, **FAST)
    platform.ask("refuse", operation="list_extended_data", status=401)
    with pytest.raises(UnauthorizedError) as ended:
        ingest_extended_data(
            client, ingested.provider, imodel_ids, tmp_path, batch_entries=30, **FAST
        )
    note = ended.value.__notes__[-1]
    assert note.startswith(
        f"This happened on every worker, 3 batches in a row. What was done is kept in {tmp_path}"
    )
    asked = {item.imodel_id for item in platform.arrived("list_extended_data")}
    assert len(asked - set(imodel_ids[:2])) <= 6  # of ten that were left
    assert all(Path(path).exists() for path in first.paths)
    platform.ask("forget")
    found = ingest_extended_data(client, ingested.provider, imodel_ids, tmp_path, **FAST)
    assert (found.rows, found.imodels, found.failures) == (360, 12, {})
    assert set(first.paths) < set(found.paths)


def test_what_a_failing_worker_could_do_of_a_batch_is_kept(
    client, platform, imodel_ids, tmp_path, short_minute
):
    one_of_each = sorted(imodel_ids)[::3]
    platform.ask("refuse", operation="list_extended_data", status=401, imodels=one_of_each)
    how = {"batch_entries": 90, **FAST}
    with pytest.raises(UnauthorizedError):  # every worker was stopped
        ingest_extended_data(client, ingested.provider, imodel_ids, tmp_path, **how)
    kept = rows_of(tmp_path.glob("part-*"))
    assert kept.num_rows and not {*kept["imodel_id"].to_pylist()} & {*one_of_each}
    platform.ask("forget")
    found = ingest_extended_data(client, ingested.provider, imodel_ids, tmp_path, **how)
    assert (found.rows, found.imodels, found.failures) == (360, 12, {})


@pytest.fixture
def short_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_monitor, "POLL_INTERVAL", 0.2)


def test_when_all_workers_have_gone_it_says_so(
    slow, slow_imodel_ids, tmp_path, short_looks, short_minute, caplog
):
    with processes(slow, 1) as client:

        def shrink(progress):
            if progress.done == 1:
                client.cluster.scale(0)

        how = {"batch_entries": 10, "concurrency": 1, **FAST}
        with pytest.raises(
            RuntimeError, match=r"^the cluster has had no worker for \d+ s \(max_idle is 1\)"
        ):
            ingest_extended_data(
                client,
                ingested.provider,
                slow_imodel_ids,
                tmp_path,
                on_progress=shrink,
                max_idle=1,
                **how,
            )
        done = len(list(tmp_path.glob("part-*")))
        assert 1 <= done < 12
        assert "The cluster has no worker; the job waits up to 1 s for one" in caplog.text
        client.cluster.scale(1)
        client.wait_for_workers(1)
        slow.ask("forget")
        found = ingest_extended_data(client, ingested.provider, slow_imodel_ids, tmp_path, **how)
        assert (found.rows, found.failures) == (120, {})
        assert len(slow.arrived("list_extended_data")) == 12 - done


def test_a_scheduler_that_has_gone_is_reported_in_time(slow, slow_imodel_ids, tmp_path):
    cluster = subprocess.Popen(
        [sys.executable, Path(__file__).with_name("scheduler.py")],
        env=os.environ | slow.environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    killed: list[float] = []

    def kill(progress):
        if progress.done == 1:
            cluster.kill()
            killed.append(time.monotonic())

    address = cluster.stdout.readline().strip()
    with Client(address) as client:
        with pytest.raises(RuntimeError) as ended:
            ingest_extended_data(
                client,
                ingested.provider,
                slow_imodel_ids,
                tmp_path,
                batch_entries=10,
                concurrency=1,
                on_progress=kill,
                **FAST,
            )
        assert time.monotonic() - killed[0] < 60  # half of `max_idle`
    cluster.communicate()
    assert str(ended.value).startswith(
        f"the scheduler at {address} has gone (the connection was lost): call again"
    )
    assert len(list(tmp_path.glob("part-*"))) >= 1
