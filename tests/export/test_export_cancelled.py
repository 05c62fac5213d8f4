"""A cancelled export ends at once, loses nothing, and keeps what has come."""

import asyncio
import threading
from collections.abc import AsyncIterator

import pytest
from exports import every_imodel, held, rows_of, small_parts, stopped_after
from support import Running, cancelled_at_each_await, until

from itwin_async.emulator import Status, Throttle
from itwin_async.export import ExportProgress, export_extended_data
from itwin_async.export import _job as job
from itwin_async.export._arrow import ArrowFile
from itwin_async.export._store import Store

__all__ = ["small_parts"]  # fixtures


# Cancelled, and errors of the caller's own


class Gate:
    """Holds a function in its thread until it is opened."""

    def __init__(self, monkeypatch, owner, name: str) -> None:
        self.reached = threading.Event()
        self.open = threading.Event()
        act = getattr(owner, name)

        def held(*args, **kwargs):
            self.reached.set()
            assert self.open.wait(30)
            return act(*args, **kwargs)

        monkeypatch.setattr(owner, name, held)


@pytest.mark.parametrize("name", ["open", "store", "finish"])
@pytest.mark.parametrize("times", [1, 3])
async def test_cancelled_while_a_thread_is_at_work(
    name, times, cancel_kind, itwin, tmp_path, monkeypatch, small_parts
):
    imodels = await every_imodel(itwin)
    output = tmp_path / "a.parquet"
    owner, what = (ArrowFile, "_batches") if name == "finish" else (Store, name)
    gate = Gate(monkeypatch, owner, what)
    running = Running(cancel_kind, export_extended_data(itwin, imodels, output, page_size=5))
    await until(gate.reached.is_set)
    for _ in range(times):
        running.cancel()
        for _ in range(20):
            await asyncio.sleep(0)
        assert not running.done()  # it waits for its thread
    gate.open.set()
    with pytest.raises(asyncio.CancelledError):
        await running
    exported = await export_extended_data(itwin, imodels, output, page_size=5)
    assert exported.rows == 150
    assert rows_of(output) == await held(itwin, imodels)


@pytest.mark.parametrize("when", ["waiting", "ready"])
@pytest.mark.parametrize("step", [pytest.param(1, marks=pytest.mark.slow), 13])
async def test_cancelled_at_any_await_it_loses_nothing(
    cancel_kind, when, step, itwin, tmp_path, monkeypatch, small_parts
):
    monkeypatch.setattr(job, "STORE_SECONDS", 0.01)
    imodels = (await every_imodel(itwin))[:2]
    expected = await held(itwin, imodels)
    number = 0

    def output():
        return tmp_path / f"{number}.jsonl"

    def export():
        return export_extended_data(itwin, imodels, output(), page_size=9)

    async def check(of: int) -> None:
        nonlocal number
        await export()
        assert rows_of(output()) == expected
        assert not list(tmp_path.glob("*.parts"))
        number = of + 1

    awaits, exported = await cancelled_at_each_await(
        cancel_kind, export, check, when=when, step=step
    )
    assert awaits > 20
    assert exported.rows == 50


async def test_a_time_out_of_the_callers_own_ends_it(emulator, itwin, tmp_path):
    imodels = await every_imodel(itwin)

    async def ids() -> AsyncIterator[str]:
        yield imodels[0]
        raise TimeoutError

    def fail(*_: object) -> None:
        raise TimeoutError

    output = tmp_path / "a.jsonl"
    emulator.faults.add(
        lambda request: request.path.startswith(f"/imodels/{imodels[1]}/"), Status(404), times=None
    )
    async with asyncio.timeout(30):
        for call in (
            {"imodel_ids": ids()},
            {"imodel_ids": imodels[1:2], "on_error": fail},
        ):
            with pytest.raises(TimeoutError):
                await export_extended_data(itwin, output=output, resume=False, **call)


# What is kept


async def test_what_has_come_is_stored_and_reported_while_nothing_more_comes(
    cancel_kind, emulator, itwin, tmp_path, monkeypatch
):
    """A pause of all lists is when a job gets stopped."""
    monkeypatch.setattr(job, "STORE_SECONDS", 0.05)
    imodels = await every_imodel(itwin)
    emulator.faults.add("list_extended_data", Throttle(60), after=9, times=None)
    output = tmp_path / "a.jsonl"
    reports: list[ExportProgress] = []
    running = Running(
        cancel_kind,
        export_extended_data(itwin, imodels, output, page_size=5, on_progress=reports.append),
    )
    parts = tmp_path / "a.jsonl.parts"

    def stored() -> int:
        assert not running.done()
        return sum(len(part.read_bytes().splitlines()) for part in parts.glob("0*.jsonl"))

    await until(lambda: stored() >= 45)  # nine pages
    assert stored() == 45
    await until(lambda: reports and reports[-1].rows == 45)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running


async def test_a_cancelled_export_keeps_what_has_come(emulator, itwin, tmp_path):
    imodels = await every_imodel(itwin)
    output = tmp_path / "a.jsonl"
    await stopped_after(25, itwin, imodels, output, page_size=5)
    reports: list[ExportProgress] = []
    await export_extended_data(itwin, imodels, output, page_size=5, on_progress=reports.append)
    assert reports[-1].resumed >= 25
    assert rows_of(output) == await held(itwin, imodels)


async def test_what_came_before_an_error_is_in_the_output(emulator, itwin, tmp_path):
    (first, *_) = await every_imodel(itwin)
    emulator.faults.add("list_extended_data", Status(404), after=3, times=None)
    failed: list[str] = []
    exported = await export_extended_data(
        itwin,
        first,
        tmp_path / "a.jsonl",
        page_size=5,
        on_error=lambda which, _: failed.append(which),
    )
    assert failed == [first]
    assert exported.rows == 15
