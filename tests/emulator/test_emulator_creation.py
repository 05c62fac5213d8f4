"""iModels that are created: what the emulator refuses, and what it keeps."""

import pytest

from itwin_async.emulator import Emulator

SUN_CITY = "5e19bee0-3aea-4355-a9f0-c6df9989ee7d"
ITWIN = "dc914a84-e0c9-40e2-9d14-faf5ed84147f"
UNKNOWN = "00000000-0000-4000-8000-000000000000"
NEW = {"iTwinId": ITWIN, "name": "n"}
INVALID = "InvalidiModelsRequest"


@pytest.mark.parametrize(
    ("body", "detail"),
    [
        ({}, ("MissingRequiredProperty", "iTwinId")),
        ({"iTwinId": "odd", "name": "n"}, ("InvalidValue", "iTwinId")),
        ({"iTwinId": ITWIN}, ("MissingRequiredProperty", "name")),
        ({**NEW, "name": ""}, ("InvalidValue", "name")),
        ({**NEW, "name": 5}, ("InvalidValue", "name")),
        ({**NEW, "name": "n" * 256}, ("InvalidValue", "name")),
        ({**NEW, "description": "d" * 256}, ("InvalidValue", "description")),
        ({**NEW, "extent": {"southWest": {}}}, ("InvalidValue", "extent")),
        ({**NEW, "containersEnabled": "1"}, ("InvalidValue", "containersEnabled")),
        ({**NEW, "creationMode": "odd"}, ("InvalidValue", "creationMode")),
        ({**NEW, "creationMode": "fromBaseline"}, ("MissingRequiredProperty", "baselineFile")),
        ({**NEW, "creationMode": "fromiModelVersion"}, ("MissingRequiredProperty", "template")),
        ({**NEW, "template": {}}, ("MissingRequiredProperty", "iModelId")),
        ({**NEW, "baselineFile": {}}, ("MissingRequiredProperty", "size")),
        ({**NEW, "baselineFile": {"size": 0}}, ("InvalidValue", "size")),
        (
            {**NEW, "template": {"iModelId": SUN_CITY}, "baselineFile": {"size": 1}},
            ("MutuallyExclusivePropertiesProvided", None),
        ),
    ],
)
async def test_a_body_that_cannot_be_is_refused(web, emulator, refused, body, detail):
    found = await web(emulator, "/imodels", "POST", json=body)
    refused(found, 422, INVALID, detail=detail, message="Cannot create iModel.")


@pytest.mark.parametrize("kind", ["clone", "fork"])
async def test_a_copy_that_cannot_be_is_refused(web, emulator, refused, kind):
    async def copy(body):
        return await web(emulator, f"/imodels/{SUN_CITY}/{kind}", "POST", json=body)

    message = f"Cannot {kind} iModel."
    both = {**NEW, "changesetId": "", "changesetIndex": 0}
    detail = ("MutuallyExclusivePropertiesProvided", None)
    refused(await copy(both), 422, INVALID, detail=detail, message=message)
    detail = ("MissingRequiredProperty", "iTwinId")
    refused(await copy({}), 422, INVALID, detail=detail, message=message)
    refused(await copy({**NEW, "changesetIndex": 999}), 404, "ChangesetNotFound")
    refused(await copy({"iTwinId": UNKNOWN}), 404, "iTwinNotFound")
    refused(await copy({"iTwinId": ITWIN}), 409, "iModelExists")


async def test_a_change_that_cannot_be_is_refused(web, emulator, refused):
    async def change(body):
        return await web(emulator, f"/imodels/{SUN_CITY}", "PATCH", json=body)

    refused(await change({}), 422, INVALID, detail=("InvalidRequestBody", None))
    refused(await change({"name": " "}), 422, INVALID, detail=("InvalidValue", "name"))
    refused(await change({"extent": 5}), 422, INVALID, detail=("InvalidValue", "extent"))
    other = (await web(emulator, "/imodels", "POST", json=NEW))[1]["iModel"]
    refused(await change({"name": other["name"]}), 409, "iModelExists")
    status, body, _ = await change({"name": "Sun City Renewable-energy Plant"})
    assert (status, body["iModel"]["name"]) == (200, "Sun City Renewable-energy Plant")


async def test_an_imodel_without_a_mode_is_there_at_once(web):
    async with Emulator(imodels=1, creation_time=30) as emulator:
        states = {}
        for mode in (None, "empty", "Empty"):
            body = {**NEW, "name": str(mode), "creationMode": mode}
            states[mode] = (await web(emulator, "/imodels", "POST", json=body))[1]["iModel"]
        assert [one["state"] for one in states.values()] == ["initialized", *["notInitialized"] * 2]
        path = f"/imodels/{states['empty']['id']}"
        emulator.advance(29.9)
        assert (await web(emulator, path))[1]["iModel"]["state"] == "notInitialized"
        emulator.advance(0.2)
        assert (await web(emulator, path))[1]["iModel"]["state"] == "initialized"


async def test_a_copy_says_where_it_is(web, emulator):
    status, _, headers = await web(
        emulator, f"/imodels/{SUN_CITY}/clone", "POST", json={**NEW, "changesetIndex": 2}
    )
    assert 200 <= status < 300
    location = headers["Location"].removeprefix(emulator.url)
    assert (await web(emulator, location))[1]["iModel"]["name"] == "n"
    items = await web.items(emulator, f"{location}/changesets", "changesets")
    assert [item["index"] for item in items] == [1, 2]
    assert items[0]["parentId"] == ""


async def test_a_copy_has_the_files_of_the_original(web, emulator):
    index = emulator.push_changeset(SUN_CITY, file=b"the very bytes")
    _, _, headers = await web(emulator, f"/imodels/{SUN_CITY}/clone", "POST", json=NEW)
    location = headers["Location"].removeprefix(emulator.url)
    for number, path in ((1, f"/imodels/{SUN_CITY}"), (1, location), (index, location)):
        changeset = (await web(emulator, f"{path}/changesets/{number}"))[1]["changeset"]
        link = changeset["_links"]["download"]["href"]
        status, content, _ = await web(emulator, link, token=False)
        assert (status, len(content)) == (200, changeset["fileSize"])
    assert content == b"the very bytes"
    await web(emulator, location, "DELETE")
    link = (await web(emulator, f"/imodels/{SUN_CITY}/changesets/{index}"))[1]["changeset"]
    status, content, _ = await web(emulator, link["_links"]["download"]["href"], token=False)
    assert (status, content) == (200, b"the very bytes")


async def test_events_tell_of_what_was_created_and_deleted(web, emulator):
    created = (await web(emulator, "/imodels", "POST", json=NEW))[1]["iModel"]
    creator = created["_links"]["creator"]["href"]
    status, body, _ = await web(emulator, creator)
    assert status == 200
    assert body["user"]["displayName"] == "Emulator Service"


async def test_what_belongs_to_an_imodel_or_an_itwin_is_checked(web, emulator, refused):
    found = await web(emulator, f"/imodels/{SUN_CITY}/thumbnail?size=huge")
    refused(found, 422, INVALID, detail=("InvalidValue", "size"))
    body = {"name": "n", "systemId": "s", "systemType": "t", "credentials": {"User": 5}}
    found = await web(emulator, f"/edfs/itwins/{ITWIN}/systems", "POST", json=body)
    refused(found, 422, "InvalidSystemRequest", detail=("InvalidValue", "credentials"))


def test_a_creation_time_that_cannot_be_is_refused():
    with pytest.raises(ValueError, match="creation_time"):
        Emulator(creation_time=-1)
