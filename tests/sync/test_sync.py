"""`sync_extended_data`: what is new goes to a sink, with the checkpoint in one step."""

import asyncio
import contextlib
from pathlib import Path

import msgspec
import pytest
from feeds import DATA, IMODELS, imodels_of, one_pass, platform, project, sent, there
from sinks import MemorySink
from support import cancelled_at_each_await

from itwin_async import ITwinError
from itwin_async.emulator import Status
from itwin_async.sync import ParquetDataset, Synced, SyncProgress, _sync, sync_extended_data


class Payload(msgspec.Struct):
    data: dict


async def test_the_first_sync_writes_all_and_the_second_one_what_is_new():
    async with platform() as (emulator, itwin):
        scope = await project(itwin)
        imodels = await imodels_of(itwin, scope)
        sink = MemorySink()
        first = await sync_extended_data(itwin, sink, itwin_id=scope)
        assert first == Synced(rows=150, bad=0, imodels=6, requests=7)
        assert sink.keys == there(emulator, imodels)
        assert [count for count, _ in sink.writes] == [25] * 6
        index = emulator.push_changeset(imodels[1], {"n": 1})
        sent(emulator)
        second = await sync_extended_data(itwin, sink, itwin_id=scope)
        assert second == Synced(rows=1, bad=0, imodels=1, requests=2)
        assert sent(emulator) == {IMODELS: 1, DATA: 1}
        assert (sink.rows[-1].imodel_id, sink.rows[-1].changeset_index) == (imodels[1], index)
        third = await sync_extended_data(itwin, sink, itwin_id=scope)
        assert third == Synced(rows=0, bad=0, imodels=1, requests=2)  # it has not settled
        assert sink.keys == there(emulator, imodels)


@pytest.mark.parametrize("sink", ["changes", Path("changes"), ParquetDataset])
async def test_a_path_in_place_of_a_sink_is_refused_before_anything_is_sent(sink):
    async with platform() as (emulator, itwin):
        with pytest.raises(
            TypeError, match=r'sink must be a Sink such as ParquetDataset\("changes'
        ):
            await sync_extended_data(itwin, sink, itwin_id="a")
        assert emulator.requests == []


async def test_a_row_has_the_payload_decoded_and_as_it_came():
    async with platform(imodels=3, changesets=2) as (_, itwin):
        first, *_ = await imodels_of(itwin, await project(itwin))
        sink = MemorySink()
        await sync_extended_data(itwin, sink, imodel_ids=first, data_type=Payload)
        (row, _) = sink.rows
        assert isinstance(row.data, Payload)
        assert row.payload is not None
        assert msgspec.json.decode(row.payload)["data"] == row.data.data
        entry = await itwin.imodels.get_extended_data(first, 1)
        assert (row.imodel_id, row.changeset_index, row.changeset_id, row.error) == (
            first,
            1,
            entry.changeset_id,
            None,
        )


async def test_bad_payloads_are_rows_with_a_reason_and_are_counted():
    async with platform(imodels=3, changesets=4) as (emulator, itwin):
        first, *_ = await imodels_of(itwin, await project(itwin))
        emulator._state.imodels[first].written |= {2: "!", 3: "W10="}
        sink = MemorySink()
        synced = await sync_extended_data(itwin, sink, imodel_ids=first)
        assert (synced.rows, synced.bad) == (2, 2)
        _, no_base64, no_object, _ = sink.rows
        assert (no_base64.data, no_base64.payload, no_base64.received) == (None, None, "!")
        assert "not base64" in (no_base64.error or "")
        assert (no_object.data, no_object.payload) == (None, b"[]")
        assert "does not decode" in (no_object.error or "")


async def test_what_the_sink_puts_aside_counts_as_bad():
    class Choosy(MemorySink):
        async def write(self, rows, checkpoint) -> int:
            await super().write(rows, checkpoint)
            return len(rows) // 5

    async with platform() as (_, itwin):
        synced = await sync_extended_data(itwin, Choosy(), itwin_id=await project(itwin))
        assert (synced.rows, synced.bad) == (120, 30)


@pytest.mark.parametrize("rows", [1, 4, 6, 7])
async def test_writes_are_bounded_and_each_has_the_checkpoint_of_what_is_written(rows, monkeypatch):
    """Whichever write is the last one before the process dies, the next sync continues it."""
    monkeypatch.setattr(_sync, "_WRITE_ROWS", rows)
    async with platform(imodels=3, changesets=6) as (emulator, itwin):
        scope = await project(itwin)
        imodels = await imodels_of(itwin, scope)
        sink = MemorySink()
        await sync_extended_data(itwin, sink, itwin_id=scope)
        assert max(count for count, _ in sink.writes) == min(rows, 6)
        assert min(count for count, _ in sink.writes) > 0  # the end comes with the last rows
        written = [(row.imodel_id, row.changeset_index) for row in sink.rows]
        done = 0
        for count, checkpoint in sink.writes:
            done += count
            rest, _ = await one_pass(itwin, checkpoint, itwin_id=scope)
            assert sorted(written[:done] + rest) == there(emulator, imodels)


async def test_writes_are_bounded_in_bytes(monkeypatch):
    monkeypatch.setattr(_sync, "_WRITE_BYTES", 20_000)
    async with platform(imodels=3, changesets=20, payload_bytes=6_000) as (emulator, itwin):
        scope = await project(itwin)
        sink = MemorySink()
        await sync_extended_data(itwin, sink, itwin_id=scope)
        assert max(count for count, _ in sink.writes) < 10
        assert len(sink.writes) > 10
        assert sink.keys == there(emulator, await imodels_of(itwin, scope))


async def test_without_rows_the_checkpoint_is_written_where_it_has_moved():
    async with platform() as (emulator, itwin):
        scope = await project(itwin)
        first, *_ = await imodels_of(itwin, scope)
        sink = MemorySink()
        await sync_extended_data(itwin, sink, itwin_id=scope)
        writes = len(sink.writes)
        await sync_extended_data(itwin, sink, itwin_id=scope)
        assert len(sink.writes) == writes  # nothing has
        emulator.push_changeset(first)
        await sync_extended_data(itwin, sink, itwin_id=scope)
        assert [count for count, _ in sink.writes[writes:]] == [0]
        emulator.delete_imodel(first)
        await sync_extended_data(itwin, sink, itwin_id=scope)
        assert [count for count, _ in sink.writes[writes + 1 :]] == [0]


async def test_a_sink_that_skips_checkpoints_without_rows_gets_each_entry_once_too():
    class Skipping(MemorySink):
        async def write(self, rows, checkpoint) -> None:
            if rows:
                await super().write(rows, checkpoint)

    async with platform() as (emulator, itwin):
        scope = await project(itwin)
        imodels = await imodels_of(itwin, scope)
        sink = Skipping()
        for imodel in imodels:
            await sync_extended_data(itwin, sink, itwin_id=scope)
            emulator.push_changeset(imodel)
            emulator.advance(1_000)
            await sync_extended_data(itwin, sink, itwin_id=scope)
            emulator.push_changeset(imodel, {"n": 1})
        await sync_extended_data(itwin, sink, itwin_id=scope)
        assert sink.keys == there(emulator, imodels)


@pytest.mark.parametrize("when", ["waiting", "ready"])
async def test_cancelled_at_each_await_each_entry_is_stored_once(cancel_kind, when, monkeypatch):
    monkeypatch.setattr(_sync, "_WRITE_ROWS", 2)
    async with platform(imodels=2, changesets=3) as (emulator, itwin):
        scope = await project(itwin)
        imodels = await imodels_of(itwin, scope)
        sink = MemorySink()

        async def run() -> Synced:
            nonlocal sink
            sink = MemorySink()
            return await sync_extended_data(itwin, sink, itwin_id=scope)

        async def check(_: int) -> None:
            assert not sink.open
            await sync_extended_data(itwin, sink, itwin_id=scope)
            assert sink.keys == there(emulator, imodels)

        awaits, synced = await cancelled_at_each_await(cancel_kind, run, check, when=when)
        assert synced.rows == len(there(emulator, imodels))
        assert awaits >= 4


async def test_what_was_read_before_an_error_is_written():
    async with platform() as (emulator, itwin):
        scope = await project(itwin)
        first, *others = await imodels_of(itwin, scope)
        emulator.faults.add(f"/imodels/{first}/changesets", Status(422), None)
        sink = MemorySink()
        with pytest.raises(ITwinError, match="422"):
            await sync_extended_data(itwin, sink, itwin_id=scope)
        assert sink.keys == there(emulator, others)
        emulator.faults.clear()
        await sync_extended_data(itwin, sink, itwin_id=scope)
        assert sink.keys == there(emulator, [first, *others])


async def test_what_was_read_of_an_imodel_before_an_error_of_all_is_written():
    async with platform(imodels=3, max_items=5) as (emulator, itwin):
        scope = await project(itwin)
        imodels = await imodels_of(itwin, scope)
        emulator.faults.add(DATA, Status(401), None, after=2)
        sink = MemorySink()
        with pytest.raises(ITwinError, match="401"):
            await sync_extended_data(itwin, sink, itwin_id=scope, workers=1)
        assert len(sink.rows) == 10
        emulator.faults.clear()
        await sync_extended_data(itwin, sink, itwin_id=scope)
        assert sink.keys == there(emulator, imodels)


async def test_the_error_of_a_sink_ends_the_sync_and_leaves_it_closed():
    class Full(MemorySink):
        async def write(self, rows, checkpoint) -> None:
            if len(self.writes) == 2:
                raise OSError(28, "No space left on device")
            await super().write(rows, checkpoint)

    async with platform() as (emulator, itwin):
        scope = await project(itwin)
        sink = Full()
        with pytest.raises(OSError, match="No space"):
            await sync_extended_data(itwin, sink, itwin_id=scope)
        assert not sink.open
        assert len(sink.rows) == 50
        after = MemorySink()
        after.rows, after.committed = sink.rows, sink.committed
        await sync_extended_data(itwin, after, itwin_id=scope)
        assert after.keys == there(emulator, await imodels_of(itwin, scope))


async def test_an_itwin_error_of_a_sink_loses_nothing_either():
    """A sink may send requests of its own, whose errors are those of reading, too."""

    class Enriching(MemorySink):
        async def write(self, rows, checkpoint) -> None:
            if rows and len(self.writes) == 2:
                raise ITwinError("the lookup failed")
            await super().write(rows, checkpoint)

    async with platform() as (emulator, itwin):
        scope = await project(itwin)
        sink = Enriching()
        with pytest.raises(ITwinError, match="the lookup failed"):
            await sync_extended_data(itwin, sink, itwin_id=scope)
        after = MemorySink()
        after.rows, after.committed = sink.rows, sink.committed
        await sync_extended_data(itwin, after, itwin_id=scope)
        assert after.keys == there(emulator, await imodels_of(itwin, scope))


async def test_progress_is_reported_and_its_error_changes_nothing(caplog):
    reports: list[SyncProgress] = []

    def note(progress: SyncProgress) -> None:
        reports.append(progress)
        if len(reports) == 5:
            raise RuntimeError("enough")

    async with platform() as (_, itwin):
        synced = await sync_extended_data(
            itwin, MemorySink(), itwin_id=await project(itwin), on_progress=note
        )
    assert synced.rows == 150
    assert [report.rows for report in reports] == [25, 50, 75, 100, 125]
    assert reports[-1].imodels == 6
    assert "on_progress failed" in caplog.text


async def test_a_sink_of_another_scope_is_refused():
    async with platform() as (emulator, itwin):
        scope = await project(itwin)
        first, *_ = await imodels_of(itwin, scope)
        sink = MemorySink()
        await sync_extended_data(itwin, sink, imodel_ids=first)
        rows = list(sink.rows)
        sent(emulator)
        with pytest.raises(ValueError, match="the target belongs to another iTwin"):
            await sync_extended_data(itwin, sink, itwin_id=scope)
        assert (sink.rows, sink.open, emulator.requests) == (rows, False, [])


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({}, ValueError),
        ({"itwin_id": "a", "workers": 0}, ValueError),
        ({"itwin_id": "a", "workers": None}, TypeError),
        ({"itwin_id": "a", "look_back": -1}, ValueError),
        ({"itwin_id": "a", "settle": "5"}, TypeError),
        ({"itwin_id": "a", "on_progress": 5}, TypeError),
        ({"itwin_id": "a", "data_type": int}, TypeError),
    ],
)
async def test_bad_arguments_are_refused_before_the_sink_is_opened(itwin, options, error):
    class Untouched(MemorySink):
        async def __aenter__(self):
            raise AssertionError("it was opened")

    with pytest.raises(error):
        await sync_extended_data(itwin, Untouched(), **options)


async def test_many_imodels_are_read_at_once_within_workers():
    async with platform(imodels=12, changesets=5, latency=0.01) as (emulator, itwin):
        emulator.max_in_flight = 0
        await sync_extended_data(itwin, MemorySink(), itwin_id=await project(itwin), workers=5)
        assert 1 < emulator.max_in_flight <= 5


async def test_data_stored_while_it_runs_is_there_once():
    class Busy(MemorySink):
        async def write(self, rows, checkpoint) -> None:
            await super().write(rows, checkpoint)
            for imodel in imodels[:3]:
                emulator.push_changeset(imodel, {"n": len(self.rows)})
            with contextlib.suppress(ValueError):
                emulator.store_extended_data(imodels[4], 2 * len(self.writes), {"late": 1})
            await asyncio.sleep(0)

    options = {"imodels": 6, "changesets": 19, "extended_data_every": 2, "max_items": 3}
    async with platform(**options) as (emulator, itwin):
        scope = await project(itwin)
        imodels = await imodels_of(itwin, scope)
        sink = Busy()
        await sync_extended_data(itwin, sink, itwin_id=scope)
        after = MemorySink()
        after.rows, after.committed = sink.rows, sink.committed
        for imodel in imodels:
            emulator.push_changeset(imodel)
        await sync_extended_data(itwin, after, itwin_id=scope)
        assert after.keys == there(emulator, imodels)
