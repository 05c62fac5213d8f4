"""A second call on a destination costs what is new, as a change feed does."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ingested
import pytest
from clusters import processes
from distributed import Client
from emulated import Platform
from ingested import keys_of, rows_of

from itwin_async import ITwinSession, StaticToken
from itwin_async.distributed import Ingested, ingest_extended_data
from itwin_async.distributed._destination import Destination
from itwin_async.sync import ChangeFeed

FAST = {"per_minute": 60_000, "batch_entries": 1_000, "show_progress": False}
READS = ("list_imodels", "get_imodel", "list_changesets", "list_extended_data")


@pytest.fixture(scope="module")
def large() -> Iterator[Platform]:
    with Platform(imodels=2_000, changesets=2, itwins=3) as running:
        yield running


@pytest.fixture(scope="module")
def large_client(large: Platform) -> Iterator[Client]:
    with processes(large, 2) as running:
        yield running


def read_feed(platform: Platform, checkpoint: str | None, **scope: Any) -> tuple[list[Any], str]:
    """The entries of one pass of a change feed, and its checkpoint."""

    async def read() -> tuple[list[Any], str]:
        token = StaticToken(platform.ask("token"))
        async with (
            ITwinSession(token, base_url=platform.environment["ITWIN_BASE_URL"]) as itwin,
            ChangeFeed(itwin, checkpoint=checkpoint, every=None, **scope) as feed,
        ):
            return [(item.imodel_id, item.changeset_index) async for item in feed], feed.checkpoint

    return asyncio.run(read())


def counted(platform: Platform) -> dict[str, int]:
    """The requests since the last call, by operation."""
    found = [item.operation for item in platform.arrived(*READS)]
    platform.ask("forget")
    return {name: found.count(name) for name in sorted(set(found))}


def test_ten_of_two_thousand_cost_what_a_feed_costs(large, large_client, tmp_path, short_minute):
    items = large.ask("imodels")
    itwin_id, ids = items[0]["itwin_id"], [item["id"] for item in items]
    assert {item["itwin_id"] for item in items} == {itwin_id}

    def ingest(where: str, **options: Any) -> Ingested:
        large.ask("forget")
        return ingest_extended_data(
            large_client,
            ingested.provider,
            [],
            tmp_path / where,
            itwin_ids=[itwin_id],
            **FAST,
            **options,
        )

    first = ingest("out")
    assert (first.rows, first.imodels) == (4_000, 2_000)
    large.ask("push", imodels=ids[::200])
    second = ingest("out")
    new = counted(large)
    assert new == {"list_imodels": 2, "list_extended_data": 10}
    assert (second.rows, second.imodels, second.failures) == (4_010, 2_000, {})
    assert set(first.paths) < set(second.paths)
    keys = keys_of(rows_of(second.paths))
    assert len(keys) == len(set(keys)) == 4_010

    entries, behind = read_feed(large, first.checkpoint, itwin_id=itwin_id)
    assert counted(large) == new  # a feed goes on where the first call was, for as much
    assert entries and sorted(entries) == [(item, 3) for item in sorted(ids[::200])]
    assert read_feed(large, second.checkpoint, itwin_id=itwin_id)[0] == []

    large.ask("push", imodels=ids[:1])
    other = ingest("other", checkpoint=behind)  # and a cluster where a feed was
    assert keys_of(rows_of(other.paths)) == [(ids[0], 4)]

    large.ask("advance", seconds=400)
    ingest("out")
    third = ingest("out")
    assert counted(large) == {"list_imodels": 2}
    assert third.rows == 4_011


def test_what_is_late_or_gone_is_noticed(large, large_client, tmp_path, short_minute, caplog):
    ids = sorted(item["id"] for item in large.ask("imodels"))[-4:]

    def ingest() -> Ingested:
        large.ask("forget")
        return ingest_extended_data(large_client, ingested.provider, ids, tmp_path, **FAST)

    before = ingest().rows
    large.ask("push", imodels=ids[:1], data=False)
    found = ingest()  # nothing new yet, and no part for that
    asked = {"get_imodel": 4, "list_extended_data": 1}
    assert (counted(large), found.rows, len(found.paths)) == (asked, before, 1)
    large.ask("store", imodel=ids[0], changeset=3)
    found = ingest()
    assert (counted(large), found.rows, len(found.paths)) == (asked, before + 1, 2)
    assert keys_of(rows_of(found.paths)).count((ids[0], 3)) == 1
    large.ask("advance", seconds=400)
    large.ask("delete", imodel=ids[3])
    found = ingest()
    assert (found.rows, found.failures) == (before + 1, {})
    assert f"iModel {ids[3]} is gone: its rows stay" in caplog.text
    caplog.clear()
    ingest()
    assert counted(large) == {"get_imodel": 4}  # in case that only our access was gone
    assert "is gone" not in caplog.text


def test_what_is_new_may_be_bad_or_out_of_reach(
    client, platform, imodel_ids, tmp_path, short_minute
):
    ids = sorted(imodel_ids)[:3]

    def ingest() -> Ingested:
        return ingest_extended_data(
            client, ingested.provider, ids, tmp_path, ingested.Payload, **FAST
        )

    before = ingest().rows
    platform.ask("push", imodels=ids)
    platform.ask("refuse", operation="list_extended_data", status=403, imodels=ids[:1])
    platform.ask("refuse", operation="list_extended_data", status=409, imodels=ids[1:2])
    found = ingest()
    assert found.rows == before + 1
    assert found.failures.keys() == set(ids[:2])
    assert "no access" in found.failures[ids[0]]
    assert found.failures[ids[1]].startswith("409 ")
    platform.ask("forget")
    platform.ask("push", imodels=ids[:1])
    platform.ask("spoil", entries=[-1], imodels=ids[:1])
    found = ingest()
    assert (found.rows, found.bad, found.failures) == (before + 3, 1, {})
    assert len(found.bad_paths) == 1
    keys = keys_of(rows_of(found.paths))
    assert len(keys) == len(set(keys)) == before + 3


def test_a_part_that_was_lost_is_read_again_with_what_came_after_it(
    client, platform, imodel_ids, tmp_path, short_minute
):
    def ingest() -> Ingested:
        platform.ask("forget")
        return ingest_extended_data(client, ingested.provider, imodel_ids, tmp_path, **FAST)

    first = ingest()
    platform.ask("push", imodels=imodel_ids[:3])
    second = ingest()
    before = keys_of(rows_of(second.paths))
    assert len(before) == first.rows + 3
    Path(first.paths[0]).unlink()
    third = ingest()
    assert keys_of(rows_of(third.paths)) == before
    assert third.rows == second.rows


def test_the_manifest_grows_by_a_small_file_for_each_batch(
    client, imodel_ids, tmp_path, monkeypatch
):
    written: list[int] = []
    added: list[int] = []
    write, add = Destination.write_manifest, Destination.add_to_manifest

    def counting_write(self: Destination, manifest: Any) -> None:
        written.append(len(manifest.batches))
        write(self, manifest)

    def counting_add(self: Destination, run: str, batch: Any) -> None:
        add(self, run, batch)
        added.append(max(path.stat().st_size for path in tmp_path.glob("done-*.json")))

    monkeypatch.setattr(Destination, "write_manifest", counting_write)
    monkeypatch.setattr(Destination, "add_to_manifest", counting_add)
    options = {**FAST, "batch_entries": 30}
    found = ingest_extended_data(client, ingested.provider, imodel_ids, tmp_path, **options)
    assert written == [0, 12, 12]  # at the beginning, as planned, and in the end
    assert len(added) == 12 and max(added) < 2_000
    assert found.rows >= 360
    assert [path.name for path in tmp_path.glob("*.json")] == ["manifest.json"]
