"""An export that ended goes on with the parts that belong to it."""

from collections.abc import AsyncIterator
from typing import Any

import anyio
import msgspec
import pytest
from exports import Payload, every_imodel, held, rows_of, small_parts, stopped_after

from itwin_async import ITwinSession, StaticToken
from itwin_async.export import ExportProgress, export_extended_data

__all__ = ["small_parts"]  # fixtures


@pytest.mark.parametrize("name", ["a.jsonl", "a.parquet", "a.arrow"])
@pytest.mark.parametrize("rows", [1, 9, 60, 149])
async def test_what_was_stored_is_not_read_again(
    name, rows, emulator, itwin, tmp_path, small_parts
):
    imodels = await every_imodel(itwin)
    output = tmp_path / name
    options: dict[str, Any] = {"page_size": 5, "workers": 3}
    await stopped_after(rows, itwin, imodels, output, **options)
    before = emulator.count("list_extended_data")
    reports: list[ExportProgress] = []
    exported = await export_extended_data(
        itwin, imodels, output, on_progress=reports.append, **options
    )
    assert exported.rows == 150
    assert rows_of(output) == await held(itwin, imodels)
    if rows > 8:
        assert reports[-1].resumed > 0
        pages = emulator.count("list_extended_data") - before - len(imodels)
        assert pages <= (150 - reports[-1].resumed) // 5 + 2 * 3 + len(imodels)


async def test_resume_off_begins_anew(itwin, tmp_path, small_parts):
    imodels = await every_imodel(itwin)
    await stopped_after(60, itwin, imodels, tmp_path / "a.jsonl")
    reports: list[ExportProgress] = []
    await export_extended_data(
        itwin, imodels, tmp_path / "a.jsonl", resume=False, on_progress=reports.append
    )
    assert reports[-1].resumed == 0
    assert rows_of(tmp_path / "a.jsonl") == await held(itwin, imodels)


@pytest.mark.parametrize("torn", [1, 7, 40])
async def test_a_torn_line_of_the_journal_does_not_count(torn, itwin, tmp_path, small_parts):
    imodels = await every_imodel(itwin)
    output = tmp_path / "a.jsonl"
    await stopped_after(60, itwin, imodels, output)
    journal = tmp_path / "a.jsonl.parts" / "journal"
    journal.write_bytes(journal.read_bytes()[:-torn])
    await stopped_after(120, itwin, imodels, output)  # and lines are added behind the torn one
    await export_extended_data(itwin, imodels, output)
    assert rows_of(output) == await held(itwin, imodels)


async def test_a_part_that_no_line_names_does_not_count(itwin, tmp_path, small_parts):
    imodels = await every_imodel(itwin)
    output = tmp_path / "a.jsonl"
    await stopped_after(60, itwin, imodels, output)
    parts = sorted((tmp_path / "a.jsonl.parts").glob("0*.jsonl"))
    stray = parts[-1].with_name(f"{int(parts[-1].stem) + 1:06}.jsonl")
    stray.write_bytes(parts[0].read_bytes())
    await export_extended_data(itwin, imodels, output)
    assert rows_of(output) == await held(itwin, imodels)


async def test_another_export_does_not_go_on_with_the_parts(itwin, tmp_path, small_parts):
    imodels = await every_imodel(itwin)
    output = tmp_path / "a.jsonl"
    await stopped_after(60, itwin, imodels, output)
    for message, call in {
        "other iModels": {"imodel_ids": imodels[:2]},
        "data_type None, not ": {"imodel_ids": imodels, "data_type": Payload},
        "since None, not 3": {"imodel_ids": imodels, "since": 3},
    }.items():
        with pytest.raises(ValueError, match=message):
            await export_extended_data(itwin, output=output, **call)
    await export_extended_data(itwin, imodels, output)
    assert rows_of(output) == await held(itwin, imodels)


async def test_two_at_once_do_not_share_the_parts(itwin, tmp_path):
    imodels = await every_imodel(itwin)
    refused: list[str] = []

    async def second() -> None:
        with pytest.raises(RuntimeError) as caught:
            await export_extended_data(itwin, imodels, tmp_path / "a.jsonl")
        refused.append(str(caught.value))

    async def found() -> AsyncIterator[str]:
        await second()
        for item in imodels:
            yield item

    await export_extended_data(itwin, found(), tmp_path / "a.jsonl")
    assert refused == [f"another export to {tmp_path / 'a.jsonl'} is running"]
    assert rows_of(tmp_path / "a.jsonl") == await held(itwin, imodels)


async def test_a_finished_output_is_replaced_as_a_whole(itwin, tmp_path):
    imodels = await every_imodel(itwin)
    (tmp_path / "a.jsonl").write_text("before")
    await stopped_after_first(itwin, imodels, tmp_path / "a.jsonl")
    assert (tmp_path / "a.jsonl").read_text() == "before"
    await export_extended_data(itwin, imodels, tmp_path / "a.jsonl")
    assert rows_of(tmp_path / "a.jsonl") == await held(itwin, imodels)


async def stopped_after_first(itwin, imodels, output):
    with anyio.CancelScope() as scope:
        await export_extended_data(itwin, imodels, output, on_progress=lambda _: scope.cancel())


async def test_parts_of_what_is_not_asked_for_do_not_slip_in(itwin, tmp_path, small_parts):
    imodels = await every_imodel(itwin)

    async def found(some: list[str]) -> AsyncIterator[str]:
        for item in some:
            yield item

    output = tmp_path / "a.jsonl"
    await stopped_after(20, itwin, found(imodels[:3]), output)
    with pytest.raises(ValueError, match=r"also holds rows of .*, which are not asked for now"):
        await export_extended_data(itwin, found(imodels[3:]), output)
    await export_extended_data(itwin, found(imodels), output)
    assert rows_of(output) == await held(itwin, imodels)


async def test_parts_of_another_platform_do_not_slip_in(itwin, tmp_path, small_parts):
    imodels = await every_imodel(itwin)
    output = tmp_path / "a.jsonl"
    await stopped_after(20, itwin, imodels, output)
    async with ITwinSession(StaticToken("t"), base_url="https://api.bentley.com") as other:
        with pytest.raises(ValueError, match=r"platform loopback, not https://api\.bentley\.com"):
            await export_extended_data(other, imodels, output)


async def test_a_struct_with_other_fields_is_another_export(itwin, tmp_path, small_parts):
    def payload_type(*fields: str) -> Any:
        inner = msgspec.defstruct("Inner", [(item, Any) for item in fields])
        return msgspec.defstruct("Outer", [("data", inner)], module="m")

    imodels = await every_imodel(itwin)
    output = tmp_path / "a.jsonl"
    await stopped_after(20, itwin, imodels, output, data_type=payload_type("taskId"))
    with pytest.raises(ValueError, match=r"data_type m\.Outer"):
        await export_extended_data(itwin, imodels, output, payload_type("changedFiles"))
