"""What goes wrong on the platform, and what must not show."""

import json
import pickle
import threading
import urllib.parse
import urllib.request
from pathlib import Path

import ingested
import pytest
from clusters import processes
from distributed import Client
from emulated import Platform
from fsspec.implementations.local import LocalFileSystem
from ingested import keys_of, rows_of

from itwin_async import ClientCredentials
from itwin_async.distributed import ingest_extended_data
from itwin_async.distributed._destination import Destination

FAST = {"per_minute": 6_000, "batch_entries": 90, "show_progress": False}


def test_bad_payloads_go_to_bad_files_and_are_counted(
    client, platform, imodel_ids, tmp_path, short_minute
):
    spoilt = imodel_ids[2:4]
    platform.ask("spoil", imodels=spoilt, entries=[0, 7])
    found = ingest_extended_data(client, ingested.provider, imodel_ids, tmp_path, **FAST)
    assert (found.rows, found.bad, found.imodels, found.failures) == (356, 4, 12, {})
    bad = [
        json.loads(line) for path in found.bad_paths for line in Path(path).read_text().splitlines()
    ]
    assert sorted((item["imodel_id"], item["changeset_index"]) for item in bad) == sorted(
        (item, index) for item in spoilt for index in (1, 8)
    )
    assert all("base64" in item["reason"] for item in bad)
    # Healed, and begun anew: no bad file is left.
    platform.ask("forget")
    found = ingest_extended_data(
        client, ingested.provider, imodel_ids[:1], tmp_path, resume=False, **FAST
    )
    assert (found.rows, found.bad, found.bad_paths) == (30, 0, [])
    assert sorted(path.name.partition("-")[0] for path in tmp_path.iterdir()) == [
        "manifest.json", "part"
    ]  # fmt: skip


def test_an_imodel_that_fails_is_reported_and_tried_again(
    client, platform, imodel_ids, tmp_path, short_minute
):
    platform.ask("refuse", operation="list_extended_data", imodels=imodel_ids[:1], status=403)
    platform.ask("refuse", operation="list_changesets", imodels=imodel_ids[1:2], status=404)
    platform.ask("refuse", operation="list_extended_data", imodels=imodel_ids[1:2], status=404)
    found = ingest_extended_data(client, ingested.provider, imodel_ids, tmp_path, **FAST)
    assert set(found.failures) == set(imodel_ids[:2])
    assert found.failures[imodel_ids[0]].startswith("403 ")
    assert found.failures[imodel_ids[1]].startswith("404 ")
    assert (found.rows, found.imodels) == (300, 10)
    assert set(rows_of(found.paths)["imodel_id"].to_pylist()) == set(imodel_ids[2:])
    platform.ask("forget")
    found = ingest_extended_data(client, ingested.provider, imodel_ids, tmp_path, **FAST)
    assert (found.rows, found.imodels, found.failures) == (360, 12, {})
    # Only the batches of the two were run again.
    again = {item.imodel_id for item in platform.arrived("list_extended_data")}
    assert set(imodel_ids[:2]) <= again < set(imodel_ids)
    assert platform.arrived("list_changesets") == []


def test_what_is_done_is_not_done_again_but_what_has_gone_is(
    client, platform, imodel_ids, tmp_path, short_minute
):
    first = ingest_extended_data(client, ingested.provider, imodel_ids[:6], tmp_path, **FAST)
    platform.ask("forget")
    assert (
        ingest_extended_data(client, ingested.provider, imodel_ids[:6], tmp_path, **FAST) == first
    )
    assert platform.arrived() == []
    run = json.loads(Path(first.manifest).read_text())["run"]
    ours = {f"part-{run}-0123.parquet", f"bad-{run}-0123.jsonl", f"new-{run}-0123"}
    others = {"part-00000-0123.snappy.parquet", "bad-0123.jsonl", "new-0123", "notes.txt"}
    for name in ours | others:
        (tmp_path / name).touch()
    Path(first.paths[0]).unlink()
    found = ingest_extended_data(client, ingested.provider, imodel_ids, tmp_path, **FAST)
    assert set(first.paths) < set(found.paths)
    assert keys_of(rows_of(found.paths)) == [
        (item, index) for item in sorted(imodel_ids) for index in range(1, 31)
    ]
    names = {path.name for path in tmp_path.iterdir()}
    assert names >= others
    assert not names & ours
    with pytest.raises(ValueError, match=r"holds parts of None, not of ingested\.Payload"):
        ingest_extended_data(
            client, ingested.provider, imodel_ids, tmp_path, ingested.Payload, **FAST
        )
    platform.ask("forget")
    found = ingest_extended_data(
        client, ingested.provider, imodel_ids, tmp_path, resume=False, **FAST
    )
    assert found.rows == 360
    assert {item.imodel_id for item in platform.arrived("list_extended_data")} == set(imodel_ids)


def test_a_listener_that_raises_changes_nothing_and_is_logged_once(
    client, imodel_ids, tmp_path, caplog
):
    def listen(progress):
        if progress.done:
            raise KeyError("mine")

    found = ingest_extended_data(
        client, ingested.provider, imodel_ids, tmp_path, on_progress=listen, **FAST
    )
    assert (found.rows, found.imodels, found.failures) == (360, 12, {})
    assert caplog.text.count("on_progress failed") == 1
    assert caplog.text.count("KeyError: 'mine'") == 1


def test_one_429_pauses_all_workers(tmp_path):
    seconds, count = 4, 2  # whole ones, as the header wants
    with (
        Platform(imodels=120, changesets=1, latency=0.1) as slow,
        processes(slow, count) as client,
    ):
        imodel_ids = [item["id"] for item in slow.ask("imodels")]
        slow.ask("forget")

        def throttle():
            slow.wait_for(20)
            slow.ask("throttle one", seconds=seconds)

        throttling = threading.Thread(target=throttle)
        throttling.start()
        found = ingest_extended_data(
            client,
            ingested.provider,
            imodel_ids,
            tmp_path,
            concurrency=4,
            per_minute=6_000,
            batch_entries=10,
            show_progress=False,
        )
        throttling.join()
        arrived = slow.arrived("list_extended_data")
    assert (found.rows, found.failures) == (120, {})
    (refused,) = [item for item in arrived if item.status == 429]
    # One worker got the 429. The others send little until they know of it:
    # alone, one of two would go on with 20 requests a second.
    throttled_at = refused.ended
    late = [item for item in arrived if throttled_at < item.started < throttled_at + seconds]
    after = [item for item in arrived if item.started > throttled_at + seconds]
    assert len(late) <= 4, [item.started - throttled_at for item in late]
    assert len(after) > 40


def pages(client: Client):
    """The scheduler's own pages, of the dashboard and of its workers."""
    port = client.scheduler_info()["services"]["dashboard"]
    names = ["main/workers", "main/logs"]
    for address in client.scheduler_info()["workers"]:
        quoted = urllib.parse.quote(address, safe="")
        names += [f"worker/{quoted}", f"logs/{quoted}"]
    for name in names:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/info/{name}.html") as answer:
            yield answer.read().decode()


def held(dask_scheduler):
    """The scheduler's tasks and plugins, as it shows them and as they travel."""
    tasks = [
        [ts.key, str(ts.run_spec), pickle.dumps(ts.run_spec).decode("latin-1"), str(ts.annotations)]
        for ts in dask_scheduler.tasks.values()
    ]
    plugins = [
        pickle.dumps(item).decode("latin-1") for item in dask_scheduler.worker_plugins.items()
    ]
    return [tasks, plugins, str(dask_scheduler.get_who_has()), str(dask_scheduler.transition_log)]


def test_no_secret_leaves_the_workers(tmp_path, caplog):
    shown: list[str] = []
    with Platform(imodels=12, changesets=200, latency=0.2) as platform:
        imodel_ids = [item["id"] for item in platform.ask("imodels")]
        platform.ask("refuse", operation="list_extended_data", imodels=imodel_ids[:1], status=403)
        platform.ask("throttle one", seconds=1)
        with processes(platform, 2) as client:
            submit = client.submit

            def seen(*args, **kwargs):
                shown.append(pickle.dumps((args, kwargs)).decode("latin-1"))
                return submit(*args, **kwargs)

            client.submit = seen
            ended = threading.Event()

            def watch():
                while not ended.wait(0.1):
                    shown.append(str(client.run_on_scheduler(held)))
                    shown.extend(pages(client))

            looking = threading.Thread(target=watch)
            looking.start()
            try:
                found = ingest_extended_data(
                    client,
                    ClientCredentials.from_env,
                    imodel_ids,
                    tmp_path,
                    per_minute=6_000,
                    concurrency=4,
                    batch_entries=300,
                    show_progress=False,
                )
            finally:
                ended.set()
                looking.join()
            assert (found.rows, len(found.failures)) == (2_200, 1)
            events = str(client.get_events())
            shown += [str(found), events, str(client.get_scheduler_logs(n=10_000))]
            shown += [str(client.get_worker_logs(n=10_000, nanny=item)) for item in (False, True)]
        secrets = {platform.environment["ITWIN_CLIENT_SECRET"], *platform.ask("tokens")}
    shown += [path.read_bytes().decode("latin-1") for path in tmp_path.iterdir()]
    text = "\n".join([*shown, caplog.text])
    for right_place in ("crawl-", "measure-", "from_env", "seconds", "'403 ", "manifest.json"):
        assert right_place in text
    assert "seconds" in events
    assert len(secrets) >= 3  # of two workers
    for secret in secrets:
        assert secret not in text


def test_a_part_has_its_name_when_it_is_whole(tmp_path, monkeypatch):
    whole, old = tmp_path / "whole", tmp_path / "part-run-key.parquet"
    whole.write_bytes(b"new and whole")
    old.write_bytes(b"old and whole")

    def cut(self, source, target, **_):
        Path(target).write_bytes(b"new")
        raise OSError("the disk is full")

    destination = Destination(str(tmp_path))
    monkeypatch.setattr(LocalFileSystem, "put_file", cut)
    with pytest.raises(OSError, match="full"):
        destination.put("run", whole, old.name)
    assert old.read_bytes() == b"old and whole"
    monkeypatch.undo()
    destination.put("run", whole, old.name)
    assert old.read_bytes() == b"new and whole"
