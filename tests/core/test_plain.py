"""Records as dicts that are JSON: for `json`, web frameworks and data frames."""

import copy
import dataclasses
import json
import pickle
import pprint

import aiohttp
import msgspec
import pytest
from fastapi import FastAPI
from record_kinds import RECORDS, decode, least
from serving import SUN_CITY, serving

from itwin_async import (
    Changeset,
    DownloadProgress,
    ExtensionVersion,
    IModel,
    Link,
    PayloadError,
    RateLimited,
    Stats,
    Webhook,
    plain,
)
from itwin_async._core.records import Record
from itwin_async.imodels.extended_data_entry import extended_data


@pytest.mark.parametrize("kind", RECORDS)
def test_a_plain_record_is_json_with_the_keys_of_the_platform(kind):
    fields = least(kind)
    as_dict = plain(decode(kind, fields), signed_links=True)
    assert json.loads(json.dumps(as_dict)) == as_dict
    assert set(as_dict) == {item.encode_name for item in msgspec.structs.fields(kind)}
    assert {name: value for name, value in as_dict.items() if value is not None}.items() >= (
        fields.items()
    )
    assert decode(kind, as_dict) == decode(kind, fields)


def test_nested_records_and_dates_are_plain_too():
    fields = {
        "id": "i",
        "createdDateTime": "2020-10-21T10:51:33Z",
        "extent": {
            "southWest": {"latitude": 1.5, "longitude": 2.0},
            "northEast": {"latitude": 3.0, "longitude": 4.0},
        },
        "_links": {"creator": {"href": "https://api.bentley.com/u"}},
    }
    as_dict = plain(decode(IModel, fields))
    assert as_dict["createdDateTime"] == "2020-10-21T10:51:33Z"
    assert as_dict["extent"] == fields["extent"]
    creator = {"href": "https://api.bentley.com/u", "storageType": None}
    assert as_dict["_links"]["creator"] == creator
    assert as_dict["displayName"] is None


def test_signed_links_are_there_only_where_they_are_asked_for():
    url = "https://blob.example/f?sig=canary-signature"
    changeset = decode(Changeset, {"id": "a", "index": 1, "_links": {"download": {"href": url}}})
    fields = {"number": "1", "files": [{"downloadUrl": url, "relativePath": "a.js"}]}
    version = decode(ExtensionVersion, {**fields, "archiveFile": {"downloadUrl": url}})
    for record in (changeset, version, changeset.links):
        assert "canary" not in json.dumps(plain(record))
        assert "canary" in json.dumps(plain(record, signed_links=True))
    assert plain(version)["files"][0]["relativePath"] == "a.js"
    assert "download" not in plain(changeset)["_links"]


async def test_no_record_of_the_emulator_shows_a_signature(itwin):
    extension = await anext(aiter(itwin.extensions.list_extensions()))
    listed = await anext(aiter(itwin.extensions.list_versions(extension.id)))
    version = await itwin.extensions.get_version(extension.id, listed.number)
    changeset = await itwin.imodels.get_changeset(SUN_CITY, 1)
    assert "sig=" not in json.dumps([plain(version), plain(changeset)])
    assert "sig=" in json.dumps(plain(version, signed_links=True))


@pytest.mark.parametrize("value", [None, {}, [Link()], "x", Link])
def test_what_is_no_record_is_a_type_error(value):
    with pytest.raises(TypeError, match="plain takes a record such as an IModel, not"):
        plain(value)


def test_extended_data_has_a_dict_of_its_own():
    class Files(msgspec.Struct, rename="camel"):
        changed_files: set[str]
        by_size: dict[int, str] = {}

    payload = b'{"changedFiles":["A.dgn"],"bySize":{"5":"A"},"more":1}'
    entry = extended_data("c", 7, payload, "i")
    keys = {"imodelId": "i", "changesetId": "c", "changesetIndex": 7}
    assert entry.to_dict() == {**keys, "data": json.loads(payload)}
    assert entry.to_dict()["data"] is not entry.data
    typed = extended_data("c", 7, payload, "i", Files).to_dict()
    assert typed == {**keys, "data": {"changedFiles": ["A.dgn"], "bySize": {"5": "A"}}}
    with pytest.raises(PayloadError):
        extended_data("c", 7, b"[]", "i").to_dict()
    assert plain(entry) == entry.to_dict()


@pytest.mark.parametrize("kind", RECORDS)
def test_a_record_is_a_dataclass_to_who_reads_it_as_one(kind):
    record = decode(kind, least(kind))
    assert dataclasses.is_dataclass(record)
    names = [name for name in record.__struct_fields__ if name not in kind._signed]
    assert [field.name for field in dataclasses.fields(record)] == names
    as_dict = dataclasses.asdict(record)
    assert list(as_dict) == names
    for name, value in as_dict.items():
        if not isinstance(getattr(record, name), Record | tuple):
            assert value == getattr(record, name)


def test_a_dataclass_has_no_signed_link_and_no_secret():
    url = "https://blob.example/f?sig=canary-signature"
    changeset = decode(Changeset, {"id": "a", "index": 1, "_links": {"download": {"href": url}}})
    version = decode(
        ExtensionVersion, {"number": "1", "files": [{"downloadUrl": url, "relativePath": "a.js"}]}
    )
    webhook = decode(Webhook, {"id": "w", "secret": "canary-secret"})
    for record in (changeset, version, webhook):
        assert "canary" not in repr(dataclasses.asdict(record))
        assert "canary" not in json.dumps(record, default=plain)
    assert dataclasses.asdict(version)["files"][0]["relative_path"] == "a.js"


@pytest.mark.parametrize(
    ("value", "fields"),
    [(RateLimited("GET /", 2.0, "r"), {"operation": "GET /", "seconds": 2.0, "request_id": "r"}),
     (DownloadProgress(2, 1, 9, None),
      {"files": 2, "files_done": 1, "bytes_done": 9, "bytes_total": None})],
    ids=["event", "progress"],
)  # fmt: skip
def test_events_and_progress_are_dataclasses_as_well(value, fields):
    assert dataclasses.asdict(value) == fields
    assert dataclasses.replace(value, **fields) == value
    assert dataclasses.asdict(Stats(requests=3))["requests"] == 3


@pytest.mark.parametrize(
    "value",
    [*(decode(kind, least(kind)) for kind in RECORDS), Stats(), extended_data("c", 7, b"{}", "i")],
    ids=lambda value: type(value).__name__,
)
def test_pprint_prints_the_repr(value):
    assert pprint.pformat(value, width=1) == repr(value)


def test_json_takes_records_and_entries_by_plain():
    entry = extended_data("c", 7, b'{"a":1}', "i")
    value = {"links": [Link(href="h")], "entry": entry}
    assert json.loads(json.dumps(value, default=plain)) == {
        "links": [{"href": "h", "storageType": None}],
        "entry": entry.to_dict(),
    }
    with pytest.raises(TypeError, match="not object"):
        json.dumps([object()], default=plain)


@pytest.mark.parametrize(
    "encode", [msgspec.json.encode, msgspec.msgpack.encode, msgspec.to_builtins]
)
def test_who_encodes_an_entry_learns_what_to_encode(encode):
    entry = extended_data("c", 7, b'{"a":1}', "i")
    for value in (entry, [entry]):
        with pytest.raises(TypeError, match=r"encode entry\.to_dict\(\) instead"):
            encode(value)
    assert encode(entry.to_dict())
    assert msgspec.json.encode([entry.to_dict()]) == (
        b'[{"imodelId":"i","changesetId":"c","changesetIndex":7,"data":{"a":1}}]'
    )


def test_an_entry_is_a_dataclass_whose_payload_is_decoded():
    entry = extended_data("c", 7, b'{"a":1}', "i")
    fields = {"changeset_id": "c", "changeset_index": 7, "imodel_id": "i", "data": {"a": 1}}
    assert dataclasses.asdict(entry) == fields
    assert dataclasses.asdict(entry)["data"] is not entry.data
    with pytest.raises(PayloadError):
        dataclasses.asdict(extended_data("c", 7, b"[]", "i"))
    assert copy.deepcopy(entry) == pickle.loads(pickle.dumps(entry)) == entry


async def test_fastapi_returns_records_and_entries_as_they_are(itwin):
    app = FastAPI()

    @app.get("/changesets")
    async def changesets():
        return [one async for one in itwin.imodels.list_changesets(SUN_CITY, last_index=2)]

    @app.get("/changeset")
    async def changeset() -> Changeset:
        return await itwin.imodels.get_changeset(SUN_CITY, 1)

    @app.get("/entry")
    async def entry():
        return await itwin.imodels.get_extended_data(SUN_CITY, 1)

    async with serving(app) as url, aiohttp.ClientSession(url) as http:
        async with http.get("/changesets") as answer:
            found = await answer.json()
        assert [one["index"] for one in found] == [1, 2]
        assert found[0]["push_date_time"]
        async with http.get("/changeset") as answer:
            text = await answer.text()
        assert json.loads(text)["index"] == 1
        assert "sig=" not in text
        async with http.get("/entry") as answer:
            assert (await answer.json())["data"]["data"]["changedFiles"] == ["A.dgn", "B.dgn"]
        async with http.get("/openapi.json") as answer:
            schemas = (await answer.json())["components"]["schemas"]
    assert schemas["Changeset"]["properties"]["index"]["type"] == "integer"
    assert "self_" in schemas["ChangesetLinks"]["properties"]
    assert "download" not in schemas["ChangesetLinks"]["properties"]


async def test_fastapi_returns_what_plain_gives(itwin):
    app = FastAPI()

    @app.get("/")
    async def changeset():
        return plain(await itwin.imodels.get_changeset(SUN_CITY, 1))

    @app.get("/entry")
    async def entry():
        return (await itwin.imodels.get_extended_data(SUN_CITY, 1)).to_dict()

    async with serving(app) as url, aiohttp.ClientSession(url) as http:
        async with http.get("/") as answer:
            assert (await answer.json())["index"] == 1
        async with http.get("/entry") as answer:
            assert (await answer.json())["changesetIndex"] == 1
