import hashlib
import io
import json
import zipfile

import pytest

from itwin_async.emulator import Emulator

SENSORS = "41d94bd4-46b8-48e9-a29a-7c7704a7e662"
INFO = "67ef40a5-d47b-4ce9-83a0-803d558478a9"
OWNER = "803548e2-3965-4344-9845-a65c26b3dd2a"
PRIMARY = "76c1102e-4f33-4dfa-ad93-bcd9ab717977"
PROJECT = "dc914a84-e0c9-40e2-9d14-faf5ed84147f"
UNKNOWN = "00000000-0000-4000-8000-000000000000"


async def test_the_list_has_the_documented_item_and_links(web, emulator):
    _, body, _ = await web(emulator, f"/extensions?iTwinId={OWNER}&$top=2&$skip=2")
    start = f"{emulator.url}/extensions?iTwinId={OWNER}&$top=2&$skip="
    assert body["_links"] == {
        "self": {"href": f"{start}2"},
        "prev": {"href": f"{start}0"},
        "next": {"href": f"{start}4"},
    }
    _, body, _ = await web(emulator, f"/extensions/?iTwinId={OWNER.upper()}")
    assert body["extensions"][0] == {
        "id": SENSORS,
        "name": "sensor-display",
        "description": "Extension which adds decorators to display sensors in the viewport.",
        "_links": {
            "iTwin": {"href": f"{emulator.url}/iTwins/{OWNER}"},
            "versions": {"href": f"{emulator.url}/extensions/{SENSORS}/versions"},
        },
    }
    assert "prev" not in body["_links"]


async def test_public_and_private_ones_are_all_there_once(web, emulator):
    seen = set()
    for query in ("", f"?iTwinId={OWNER}", f"?iTwinId={PROJECT}"):
        pages = [page async for page in web.pages(emulator, f"/extensions/{query}")]
        assert [len(page["extensions"]) for page in pages] == [100, 100, 100]
        assert "next" not in pages[-1]["_links"]
        ids = {item["id"] for page in pages for item in page["extensions"]}
        assert len(ids) == 300
        assert not ids & seen
        seen |= ids


async def test_filters_are_kept_in_the_links(web, emulator):
    everything = await web.items(emulator, "/extensions/", "extensions")
    found = await web.items(emulator, "/extensions?search=TERRAIN-&$top=7", "extensions")
    assert found == [item for item in everything if "terrain-" in item["name"]]
    studio = await web.items(emulator, "/extensions?isITwinStudioApp=true&$top=7", "extensions")
    assert len(studio) == 30


@pytest.mark.parametrize(
    ("query", "target"),
    [
        ("iTwinId=abc", "iTwinId"),
        ("iTwinId=", "iTwinId"),
        ("$top=0", "$top"),
        ("$skip=-1", "$skip"),
        ("isITwinStudioApp=maybe", "isITwinStudioApp"),
    ],
)
async def test_a_wrong_list_query(web, emulator, refused, query, target):
    response = await web(emulator, f"/extensions/?{query}")
    refused(
        response,
        422,
        "InvalidExtensionsRequest",
        detail=("InvalidParameter", target),
        message="Cannot retrieve extensions.",
    )


async def test_a_list_of_an_unknown_itwin(web, emulator, refused):
    response = await web(emulator, f"/extensions/?iTwinId={UNKNOWN}")
    message = "Requested Extensions are not available."
    refused(response, 404, "ExtensionsNotFound", target="iTwinId", message=message)


@pytest.mark.parametrize("path", ["/extensions", "/extensions/"])
async def test_create_then_conflict_then_delete(web, emulator, refused, path):
    new = {"name": "mine", "iTwinId": PRIMARY, "description": "Mine."}
    status, body, _ = await web(emulator, path, "POST", json=new)
    assert status == 201
    id = body["extension"].pop("id")
    assert body == {"extension": new}
    refused(await web(emulator, path, "POST", json=new), 409, "ExtensionExists")
    listed = await web.items(emulator, f"/extensions/?iTwinId={PRIMARY}&search=mine", "extensions")
    assert [item["id"] for item in listed] == [id]
    status, body, _ = await web(emulator, f"/extensions/{id}/versions")
    assert (status, body["versions"]) == (200, [])
    assert (await web(emulator, f"/extensions/{id.upper()}", "DELETE"))[:2] == (204, b"")
    response = await web(emulator, f"/extensions/{id}", "DELETE")
    refused(response, 404, "ExtensionNotFound", target="extensionId")


@pytest.mark.parametrize(
    ("body", "target"),
    [
        ({"name": "x"}, "iTwinId"),
        ({"name": "x", "iTwinId": "7"}, "iTwinId"),
        ({"name": "x", "iTwinId": PROJECT}, "iTwinId"),
        ({"iTwinId": PRIMARY}, "name"),
        ({"name": "x", "iTwinId": PRIMARY, "description": 1}, "description"),
        ([], None),
    ],
)
async def test_a_wrong_create(web, emulator, refused, body, target):
    response = await web(emulator, "/extensions/", "POST", json=body)
    code, message = "InvalidExtensionsRequest", "Cannot create extension."
    refused(response, 422, code, detail=("InvalidValue", target), message=message)


async def test_a_create_in_an_unknown_itwin(web, emulator, refused):
    response = await web(emulator, "/extensions/", "POST", json={"name": "x", "iTwinId": UNKNOWN})
    refused(response, 404, "iTwinNotFound", target="iTwinId")


async def test_a_delete_of_no_guid(web, emulator, refused):
    response = await web(emulator, "/extensions/abc", "DELETE")
    detail = "InvalidValue", "extensionId"
    refused(response, 422, "InvalidExtensionsRequest", detail=detail)


async def test_versions_hide_deprecated_ones(web, emulator):
    path = f"/extensions/{SENSORS}/versions"
    shown = await web.items(emulator, f"{path}?$top=2", "versions")
    every = await web.items(emulator, f"{path}?includeDeprecated=true&$top=2", "versions")
    assert [item["number"] for item in every if item["deprecated"]] == ["0.0.1"]
    assert shown == [item for item in every if not item["deprecated"]]
    assert shown[-1]["number"] == "2.1.0-beta.1+build.5"
    status, body, _ = await web(emulator, shown[-1]["_links"]["self"]["href"])
    assert (status, body["version"]["number"]) == (200, shown[-1]["number"])
    assert "version" not in shown[0]
    assert shown[0]["extension"]["name"] == "sensor-display"


async def test_the_documented_version_waits_for_its_upload(web, emulator):
    _, body, _ = await web(emulator, f"/extensions/{INFO}/versions/1.0.0")
    assert body == {
        "_links": {
            "iTwin": {"href": f"{emulator.url}/iTwins/{OWNER}"},
            "self": {"href": f"{emulator.url}/extensions/{INFO}/versions/1.0.0"},
        },
        "version": {
            "extension": {
                "name": "highlight-element-info",
                "description": "Extension provides additional information"
                " for highlighted elements.",
            },
            "number": "1.0.0",
            "files": [],
            "status": "WaitingForUpload",
            "deprecated": False,
            "lastUpdateTime": "2023-08-16T13:13:17.443Z",
            "creationTime": "2023-08-16T13:13:17.443Z",
        },
    }
    emulator.publish(INFO, "1.0.0")
    _, body, _ = await web(emulator, f"/extensions/{INFO}/versions/1.0.0")
    assert body["version"]["status"] != "WaitingForUpload"
    assert body["version"]["archiveFile"]
    emulator.publish(INFO, "1.0.1", {}, status="Failed", status_message="No package.json.")
    _, body, _ = await web(emulator, f"/extensions/{INFO}/versions/1.0.1")
    assert (body["version"]["status"], body["version"]["files"]) == ("Failed", [])
    assert body["version"]["statusMessage"] == "No package.json."


async def test_missing_versions_and_extensions(web, emulator, refused):
    code = "InvalidExtensionsRequest"
    for rest in ("versions", "versions/1.0.0"):
        response = await web(emulator, f"/extensions/{UNKNOWN}/{rest}")
        refused(response, 404, "ExtensionsNotFound", target="extensionId")
        response = await web(emulator, f"/extensions/abc/{rest}")
        refused(response, 422, code, detail=("InvalidParameter", "extensionId"))
    refused(await web(emulator, f"/extensions/{INFO}/versions/9.9.9"), 404, "VersionNotFound")


async def test_files_are_what_their_checksums_say(web, emulator):
    _, body, _ = await web(emulator, f"/extensions/{SENSORS}/versions/2.0.0")
    version = body["version"]
    files = {item["relativePath"]: item for item in version["files"]}
    assert [name for name, item in files.items() if item["isMain"]] == ["dist/index.js"]
    contents = {}
    for name, item in files.items():
        status, content, _ = await web(emulator, item["downloadUrl"], token=False)
        assert (status, hashlib.sha256(content).hexdigest()) == (200, item["checksum"]["sha256"])
        contents[name] = content
    assert json.loads(contents["package.json"])["version"] == "2.0.0"
    archive = version["archiveFile"]
    _, content, _ = await web(emulator, archive["downloadUrl"], token=False)
    assert hashlib.sha256(content).hexdigest() == archive["checksum"]["sha256"]
    with zipfile.ZipFile(io.BytesIO(content)) as opened:
        assert {name: opened.read(name) for name in opened.namelist()} == contents


async def test_a_signed_address_admits_nothing_else(web, emulator):
    _, body, _ = await web(emulator, f"/extensions/{SENSORS}/versions/2.0.0")
    url = body["version"]["files"][1]["downloadUrl"]
    assert (await web(emulator, url))[0] == 400
    wrong = (url[:-6], url.replace("index.js", "other.js"), url.partition("?")[0])
    for item in (*wrong, url.replace("se=2", "se=3")):
        status, content, headers = await web(emulator, item, token=False)
        assert (status, headers["Content-Type"]) == (403, "application/xml")
        assert b"<Code>AuthenticationFailed</Code>" in content
    _, whole, _ = await web(emulator, url, token=False)
    for wanted, part in (("bytes=10-19", whole[10:20]), ("bytes=10-", whole[10:])):
        status, content, headers = await web(emulator, url, token=False, headers={"Range": wanted})
        assert (status, content) == (206, part)
        assert headers["Content-Range"] == f"bytes 10-{9 + len(part)}/{len(whole)}"
    assert (await web(emulator, url, token=False, headers={"Range": "bytes=99999-"}))[0] == 416


async def test_a_range_is_of_the_entity_it_was_asked_of(emulator, web):
    _, body, _ = await web(emulator, f"/extensions/{SENSORS}/versions/2.0.0")
    urls = [file["downloadUrl"] for file in body["version"]["files"][:2]]
    (_, whole, first), (_, _, second) = [await web(emulator, url, token=False) for url in urls]
    size = len(whole)
    assert first["ETag"] != second["ETag"]
    assert first["Accept-Ranges"] == "bytes"
    for headers, status, part in (
        ({"Range": "bytes=10-19", "If-Range": first["ETag"]}, 206, whole[10:20]),
        ({"Range": "bytes=10-19", "If-Range": second["ETag"]}, 200, whole),
        ({"Range": f"bytes={size}-", "If-Range": second["ETag"]}, 200, whole),
        ({"Range": "bytes=-7"}, 206, whole[-7:]),
        ({"Range": f"bytes=-{size + 1}"}, 206, whole),
        ({"Range": "bytes=9-3"}, 200, whole),
        ({"Range": "bytes=-"}, 200, whole),
        ({"Range": "lines=1-2"}, 200, whole),
    ):
        got = await web(emulator, urls[0], token=False, headers=headers)
        assert got[:2] == (status, part), headers
        assert got[2]["ETag"] == first["ETag"]
    beyond = {"Range": f"bytes={size}-", "If-Range": first["ETag"]}
    status, _, headers = await web(emulator, urls[0], token=False, headers=beyond)
    assert (status, headers["Content-Range"]) == (416, f"bytes */{size}")


async def test_a_signed_address_expires(web, forward):
    async with Emulator(download_lifetime=0.1) as emulator:
        _, body, _ = await web(emulator, f"/extensions/{SENSORS}/versions/2.0.0")
        url = body["version"]["archiveFile"]["downloadUrl"]
        assert (await web(emulator, url, token=False))[0] == 200
        forward(0.1)
        assert (await web(emulator, url, token=False))[0] == 403
