"""Records as dicts that are JSON: for `json`, web frameworks and data frames."""

import json

import aiohttp
import msgspec
import pytest
from fastapi import FastAPI
from serving import SUN_CITY, serving
from test_records import RECORDS, decode, least

from itwin_async import Changeset, ExtensionVersion, IModel, Link, PayloadError, plain
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
    with pytest.raises(TypeError, match="not ExtendedData"):
        plain(entry)


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
