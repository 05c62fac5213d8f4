"""An export of what was pushed since a date, and what may be added to it."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from exports import every_imodel, records_of, small_parts, stopped_after

from itwin_async import ITwinSession
from itwin_async.export import export_extended_data

__all__ = ["small_parts"]  # fixtures


def stored(output: Path) -> list[tuple[str, int]]:
    return sorted((row["imodel_id"], row["changeset_index"]) for row in records_of(output))


async def pushed_since(
    itwin: ITwinSession, imodels: list[str], moment: datetime
) -> list[tuple[str, int]]:
    return sorted(
        [
            (imodel_id, changeset.index)
            for imodel_id in imodels
            async for changeset in itwin.imodels.list_changesets(imodel_id)
            if changeset.push_date_time is not None and changeset.push_date_time >= moment
        ]
    )


async def middle(itwin: ITwinSession, imodel_id: str) -> datetime:
    """When the twelfth changeset was pushed."""
    changesets = [changeset async for changeset in itwin.imodels.list_changesets(imodel_id)]
    moment = changesets[11].push_date_time
    assert moment is not None
    return moment


@pytest.mark.parametrize("name", ["a.jsonl", "a.parquet"])
async def test_what_was_pushed_since(name, itwin, emulator, tmp_path):
    imodels = await every_imodel(itwin)
    since = await middle(itwin, imodels[0])
    expected = await pushed_since(itwin, imodels, since)
    assert (imodels[0], 12) in expected
    assert (imodels[0], 11) not in expected
    await export_extended_data(itwin, imodels, tmp_path / name, since=since)
    assert stored(tmp_path / name) == expected
    emulator.push_changeset(imodels[0], {"x": 1})
    await export_extended_data(itwin, imodels, tmp_path / name, since=since)
    assert stored(tmp_path / name) == sorted([*expected, (imodels[0], 26)])


async def test_a_day_is_in_utc(itwin, tmp_path):
    imodels = await every_imodel(itwin)
    day = (await middle(itwin, imodels[0])).date()
    expected = await pushed_since(
        itwin, imodels, datetime(day.year, day.month, day.day, tzinfo=UTC)
    )
    await export_extended_data(itwin, imodels, tmp_path / "a.jsonl", since=day)
    assert stored(tmp_path / "a.jsonl") == expected


async def test_of_an_imodel_without_pushes_nothing_is_read(emulator, itwin, tmp_path):
    imodels = await every_imodel(itwin)
    tomorrow = emulator.now + timedelta(days=1)
    exported = await export_extended_data(itwin, imodels, tmp_path / "a.jsonl", since=tomorrow)
    assert exported.rows == 0
    assert emulator.count("list_extended_data") == 0


async def test_it_goes_on(itwin, tmp_path, small_parts):
    imodels = await every_imodel(itwin)
    since = await middle(itwin, imodels[0])
    options = {"page_size": 5, "since": since}
    await stopped_after(20, itwin, imodels, tmp_path / "a.jsonl", **options)
    await export_extended_data(itwin, imodels, tmp_path / "a.jsonl", **options)
    assert stored(tmp_path / "a.jsonl") == await pushed_since(itwin, imodels, since)


async def test_what_comes_before_cannot_be_added(itwin, tmp_path):
    imodels, output = await every_imodel(itwin), tmp_path / "a.jsonl"
    since = await middle(itwin, imodels[0])
    await export_extended_data(itwin, imodels, output, since=since)
    for earlier in (since - timedelta(seconds=1), 20):
        with pytest.raises(ValueError, match="holds only what came after"):
            await export_extended_data(itwin, imodels, output, since=earlier)
    await export_extended_data(itwin, imodels, output, since=since + timedelta(days=1))
    assert stored(output) == await pushed_since(itwin, imodels, since)


@pytest.mark.parametrize(
    ("since", "error"),
    [
        (datetime(2025, 1, 1), ValueError),  # noqa: DTZ001 - the case
        ("2025-01-01", TypeError),
        (True, TypeError),
        (1.5, TypeError),
    ],
)
async def test_what_is_no_date_is_refused(since, error, itwin, tmp_path):
    with pytest.raises(error, match="since must"):
        await export_extended_data(itwin, ["a"], tmp_path / "a.jsonl", since=since)
