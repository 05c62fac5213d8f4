"""An output is added to with what came after a time."""

from pathlib import Path

import pyarrow.parquet as pq
import pytest
from exports import Changes, Payload, every_imodel, held, replace_payload, rows_of

from itwin_async import ITwinSession
from itwin_async.emulator import Emulator
from itwin_async.export import _job as job
from itwin_async.export import _lists as lists
from itwin_async.export import export_extended_data


@pytest.mark.parametrize("name", ["a.jsonl", "a.parquet", "a.arrow"])
async def test_since_adds_what_came_after(name, tmp_path):
    output = tmp_path / name
    async with (
        Emulator(imodels=4, changesets=30, seed=5) as emulator,
        ITwinSession(emulator.credentials, base_url=emulator.url) as itwin,
    ):
        imodels = await every_imodel(itwin)
        await export_extended_data(itwin, imodels, output, page_size=10)
    async with (
        Emulator(imodels=4, changesets=47, seed=5) as grown,
        ITwinSession(grown.credentials, base_url=grown.url) as itwin,
    ):
        assert await every_imodel(itwin) == imodels
        exported = await export_extended_data(itwin, imodels, output, since=0, page_size=10)
        # From the page that held the last one stored: 30 are there, of 47.
        assert grown.count("list_extended_data") <= 3 * len(imodels)
        assert exported.rows == 4 * 47
        assert rows_of(output) == await held(itwin, imodels)
        again = await export_extended_data(itwin, imodels, output, since=0, page_size=10)
        assert again.rows == 4 * 47
        assert rows_of(output) == await held(itwin, imodels)


async def test_since_without_an_output_leaves_out_what_was_before(itwin, tmp_path):
    imodels = await every_imodel(itwin)
    await export_extended_data(itwin, imodels, tmp_path / "a.jsonl", since=20)
    expected = [row for row in await held(itwin, imodels) if row[1] > 20]
    assert rows_of(tmp_path / "a.jsonl") == expected
    assert len(expected) == 6 * 5


async def test_since_needs_to_know_what_it_adds_to(itwin, tmp_path):
    (tmp_path / "a.jsonl").write_text("{}\n")
    with pytest.raises(ValueError, match=r"cannot be added to without a\.jsonl\.checkpoint"):
        await export_extended_data(itwin, [], tmp_path / "a.jsonl", since=0)
    assert (tmp_path / "a.jsonl").read_text() == "{}\n"


async def test_since_adds_only_rows_of_the_same_kind(itwin, tmp_path):
    (first, *_) = await every_imodel(itwin)
    await export_extended_data(itwin, first, tmp_path / "a.parquet", Payload)
    with pytest.raises(ValueError, match="is not an export of this kind"):
        await export_extended_data(itwin, first, tmp_path / "a.parquet", Changes, since=0)


async def test_bad_rows_are_kept_when_rows_are_added(emulator, itwin, tmp_path):
    (first, *_) = await every_imodel(itwin)
    emulator.faults.add("list_extended_data", replace_payload(3, "%%%"))
    await export_extended_data(itwin, first, tmp_path / "a.jsonl")
    more = await export_extended_data(itwin, first, tmp_path / "a.jsonl", since=0)
    assert (more.rows, more.bad) == (24, 1)
    assert len((tmp_path / "a.jsonl.bad.jsonl").read_text().splitlines()) == 1


async def test_since_does_not_go_back(itwin, tmp_path):
    (first, *_) = await every_imodel(itwin)
    output = tmp_path / "a.jsonl"
    await export_extended_data(itwin, first, output, since=20)
    with pytest.raises(ValueError, match="holds only what came after 20"):
        await export_extended_data(itwin, first, output, since=5)
    for _ in range(2):  # and it remembers so
        assert (await export_extended_data(itwin, first, output, since=22)).rows == 5
        with pytest.raises(ValueError, match="holds only what came after 20"):
            await export_extended_data(itwin, first, output, since=5)
    assert {item.name for item in tmp_path.iterdir()} == {"a.jsonl", "a.jsonl.checkpoint"}


async def test_since_adds_to_what_its_export_left_alone(emulator, itwin, tmp_path):
    (first, *_) = await every_imodel(itwin)
    output = tmp_path / "a.jsonl"
    emulator.faults.add("list_extended_data", replace_payload(3, "%%%"))
    await export_extended_data(itwin, first, output)
    (tmp_path / "a.jsonl.bad.jsonl").rename(tmp_path / "bad")
    with pytest.raises(ValueError, match="is not what its export left"):
        await export_extended_data(itwin, first, output, since=0)
    (tmp_path / "bad").rename(tmp_path / "a.jsonl.bad.jsonl")
    with output.open("a") as file:
        file.write("hello\n")
    with pytest.raises(ValueError, match="is not what its export left"):
        await export_extended_data(itwin, first, output, since=0)
    (tmp_path / "a.jsonl.checkpoint").write_text("{}")
    with pytest.raises(ValueError, match=r"a\.jsonl\.checkpoint is not what this version wrote"):
        await export_extended_data(itwin, first, output, since=0)


async def test_what_is_added_to_is_read_in_groups(itwin, tmp_path, monkeypatch):
    from itwin_async.export import _arrow  # noqa: PLC0415

    monkeypatch.setattr(_arrow, "GROUP_BYTES", 2_000)
    monkeypatch.setattr(job, "STORE_ROWS", 10)
    monkeypatch.setattr(lists, "PIECE_ROWS", 10)
    output = tmp_path / "a.parquet"
    imodels = await every_imodel(itwin)
    await export_extended_data(itwin, imodels[:-1], output)
    await export_extended_data(itwin, imodels, output, since=0)
    file = pq.ParquetFile(output).metadata
    sizes = [file.row_group(number).num_rows for number in range(file.num_row_groups)]
    assert sum(sizes) == 150
    assert max(sizes) <= 20


async def test_a_link_leads_to_the_output_and_stays(itwin, tmp_path):
    (first, *_) = await every_imodel(itwin)
    (tmp_path / "real").mkdir()
    output = tmp_path / "a.jsonl"
    output.symlink_to(Path("real") / "b.jsonl")
    for since in (None, 0):
        exported = await export_extended_data(itwin, first, output, since=since)
        assert exported.output == tmp_path / "real" / "b.jsonl"
        assert output.is_symlink()
        assert len(output.read_text().splitlines()) == 25
