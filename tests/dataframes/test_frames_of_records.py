"""pandas and polars make frames of records and entries as they are."""

import pandas as pd
import polars as pl
import pytest
from record_kinds import RECORDS, decode, least

from itwin_async import ExtensionVersion, ITwinSession

SUN_CITY = "5e19bee0-3aea-4355-a9f0-c6df9989ee7d"
COLUMNS = ["changeset_id", "changeset_index", "imodel_id", "data"]


@pytest.mark.parametrize("kind", RECORDS)
def test_each_field_of_a_record_is_a_column_of_its_name(kind):
    record = decode(kind, least(kind))
    names = [name for name in record.__struct_fields__ if name not in kind._signed]
    frame = pd.DataFrame([record, record])
    assert list(frame.columns) == names
    assert len(frame) == 2
    table = pl.DataFrame([record, record])
    assert table.columns == names
    for name in names:
        value = getattr(record, name)
        if isinstance(value, str | int | float):
            assert frame[name].tolist() == table[name].to_list() == [value, value]


async def test_changesets_of_the_platform(itwin: ITwinSession):
    changesets = [item async for item in itwin.imodels.list_changesets(SUN_CITY)]
    indexes, dates = range(1, 26), [item.push_date_time for item in changesets]
    frame = pd.DataFrame(changesets)
    assert frame["index"].tolist() == list(indexes)
    assert frame["push_date_time"].tolist() == dates
    table = pl.DataFrame(changesets)
    assert table["index"].to_list() == list(indexes)
    assert table["push_date_time"].to_list() == [item.replace(tzinfo=None) for item in dates]
    assert table["links"].struct.field("creator").n_unique() >= 1
    assert "sig=" not in str(frame.to_dict()) + str(table.to_dicts())


async def test_entries_of_the_platform(itwin: ITwinSession):
    entries = [item async for item in itwin.imodels.list_extended_data(SUN_CITY)]
    payloads = [item.data for item in entries]
    frame = pd.DataFrame(entries)
    assert list(frame.columns) == COLUMNS
    assert frame["data"].tolist() == payloads
    assert set(frame["imodel_id"]) == {SUN_CITY}
    table = pl.DataFrame(entries)
    assert table.columns == COLUMNS
    assert table["changeset_index"].to_list() == list(range(1, 26))
    assert table["data"].to_list() == payloads


async def test_no_frame_has_a_signed_link(itwin: ITwinSession):
    extension = await itwin.extensions.list_extensions().first()
    listed = await itwin.extensions.list_versions(extension.id).first()
    version = await itwin.extensions.get_version(extension.id, listed.number)
    assert isinstance(version, ExtensionVersion)
    for frame in (pd.DataFrame([version]), pl.DataFrame([version])):
        assert "sig=" not in str(frame.to_dict())
    assert pl.DataFrame(version.files)["relative_path"].to_list()
