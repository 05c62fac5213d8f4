"""The file storage of the emulator: signed addresses, ranges, uploads."""

import asyncio
import base64
import io
from urllib.parse import quote

import pytest

from itwin_async.emulator import Cut, Edit, Emulator, Slow
from itwin_async.emulator._state import storage as storage_module
from itwin_async.emulator._state.storage import Storage, StorageFullError, StoredFile

SUN_CITY = "5e19bee0-3aea-4355-a9f0-c6df9989ee7d"
CHANGESETS = f"/imodels/{SUN_CITY}/changesets"
FULL = {"Prefer": "return=representation"}
BLOCK = {"x-ms-blob-type": "BlockBlob"}


async def changeset(web, emulator, index=1, **kw):
    _, body, _ = await web(emulator, f"{CHANGESETS}/{index}", **kw)
    return body["changeset"]


async def link_of(web, emulator, index=1):
    found = await changeset(web, emulator, index)
    return found["_links"]["download"]["href"], found["fileSize"]


def writable(emulator, path):
    url, _ = emulator._pipeline.signer.sign(path, "cw")
    return f"{emulator.url}{url}"


async def test_each_changeset_has_a_file_of_its_size(web, emulator):
    emulator.push_changeset(SUN_CITY, file=b"pushed")
    emulator.push_changeset(SUN_CITY, file_size=200_000)
    found = await web.items(emulator, f"{CHANGESETS}?afterIndex=97", "changesets", headers=FULL)
    contents = []
    for item in found:
        link = item["_links"]["download"]
        assert link["storageType"] == "azure"
        status, content, headers = await web(emulator, link["href"], token=False)
        assert (status, len(content)) == (200, item["fileSize"])
        assert headers["Content-Length"] == str(item["fileSize"])
        assert headers["ETag"].startswith('"')
        contents.append(content)
    assert len(contents) == len(set(contents)) == 5
    assert contents[3] == b"pushed"
    assert len(contents[4]) == 200_000
    minimal = await web.items(emulator, f"{CHANGESETS}?lastIndex=1", "changesets")
    assert "download" not in minimal[0]["_links"]


async def test_the_same_file_every_time(web):
    contents = []
    for _ in range(2):
        async with Emulator() as emulator:
            url, _ = await link_of(web, emulator)
            contents.append((await web(emulator, url, token=False))[1])
    assert contents[0] == contents[1]


async def test_a_part_of_a_file(web, emulator):
    emulator.push_changeset(SUN_CITY, file_size=150_000)
    url, size = await link_of(web, emulator, 101)
    _, whole, first = await web(emulator, url, token=False)
    for start, last in [(0, 0), (65_535, 65_536), (60_000, 140_000), (149_999, 160_000)]:
        for header in ("Range", "x-ms-range"):
            wanted = {header: f"bytes={start}-{last}", "If-Match": first["ETag"]}
            status, part, headers = await web(emulator, url, token=False, headers=wanted)
            assert (status, part) == (206, whole[start : last + 1])
            assert headers["Content-Range"] == f"bytes {start}-{min(last, size - 1)}/{size}"
    wanted = {"Range": f"bytes={size}-"}
    status, _, headers = await web(emulator, url, token=False, headers=wanted)
    assert (status, headers["Content-Range"]) == (416, f"bytes */{size}")
    for header, expected in [("If-Match", 412), ("If-None-Match", 200), ("If-Range", 200)]:
        wanted = {"Range": "bytes=5-", header: '"other"'}
        status, content, _ = await web(emulator, url, token=False, headers=wanted)
        assert status in {expected, 206}
        assert header == "If-Match" or len(content) in {size, size - 5}
    wanted = {"If-None-Match": first["ETag"]}
    assert (await web(emulator, url, token=False, headers=wanted))[0] == 304
    status, content, headers = await web(emulator, url, "HEAD", token=False)
    assert (status, content, headers["Content-Length"]) == (200, b"", str(size))


@pytest.mark.parametrize("kind", ["azure", "google"])
async def test_an_address_ends_and_cannot_be_forged(web, kind):
    async with Emulator(storage_type=kind, download_lifetime=60) as emulator:
        found = await changeset(web, emulator)
        link = found["_links"]["download"]
        assert link["storageType"] == kind
        assert ("X-Goog-Signature=" in link["href"]) == (kind == "google")
        path = link["href"].partition("?")[0].removeprefix(emulator.url)
        assert path.count("/") >= 3
        _, other, _ = await web(emulator, f"{CHANGESETS}/2")
        others = other["changeset"]["_links"]["download"]["href"]
        forged = [
            link["href"].partition("?")[0],
            f"{emulator.url}{path}?{others.partition('?')[2]}",
            link["href"][:-3],
        ]
        for url in forged:
            assert (await web(emulator, url, token=False))[0] == 403
        assert (await web(emulator, link["href"], "PUT", token=False, data=b"x"))[0] == 403
        assert (await web(emulator, link["href"], token=False))[0] == 200
        emulator.advance(61)
        status, body, _ = await web(emulator, link["href"], token=False)
        assert status == 403
        assert b"AuthenticationFailed" in body
        fresh, _ = await link_of(web, emulator)
        assert (await web(emulator, fresh, token=False))[0] == 200


async def test_a_token_is_refused_and_recorded(web, emulator):
    url, _ = await link_of(web, emulator)
    status, _, headers = await web(emulator, url, token=True)
    assert (status, headers["x-ms-error-code"]) == (400, "InvalidAuthenticationInfo")
    record = emulator.requests[-1]
    assert record.operation == "download"
    assert "Authorization" in record.headers
    assert emulator.count("download") == 1


async def test_a_viewer_gets_no_download(web):
    async with Emulator(users=["vic:viewer", "ray:reader"]) as emulator:
        for name, has_link in [("vic", False), ("ray", True)]:
            headers = {"Authorization": f"Bearer {emulator.issue_token(user=name)}"}
            found = await changeset(web, emulator, token=False, headers=headers)
            assert (found["_links"]["download"] is not None) == has_link


async def test_a_deleted_imodel_has_no_files(web, emulator):
    url, _ = await link_of(web, emulator)
    emulator.delete_imodel(SUN_CITY)
    status, _, headers = await web(emulator, url, token=False)
    assert (status, headers["x-ms-error-code"]) == (404, "BlobNotFound")


async def test_faults_meet_downloads(web, emulator):
    url, size = await link_of(web, emulator)
    emulator.faults.add("download", Edit(lambda content: content[:3]))
    assert len((await web(emulator, url, token=False))[1]) == 3
    emulator.faults.add("download", Slow(bytes_per_second=10_000_000))
    assert len((await web(emulator, url, token=False))[1]) == size
    emulator.push_changeset(SUN_CITY, file_size=500_000)
    url, _ = await link_of(web, emulator, 101)
    emulator.faults.add("download", Cut(after_bytes=300_000))
    async with web.session.get(url) as response:
        received = bytearray()
        with pytest.raises(Exception, match="payload"):
            async for chunk in response.content.iter_any():
                received += chunk
    assert len(received) == 300_000


async def test_an_upload_in_one_request(web, emulator):
    url = writable(emulator, "/storage/container/a%20b.bin")
    status, body, _ = await web(emulator, url, "PUT", token=False, data=b"new")
    assert status == 400
    assert b"MissingRequiredHeader" in body
    big = bytes(3 << 20)
    status, _, headers = await web(
        emulator, url, "PUT", token=False, data=io.BytesIO(big), headers=BLOCK
    )
    assert status == 201
    assert headers["ETag"]
    assert emulator._state.storage.find("container", "a b.bin").content == big
    assert (await web(emulator, url, token=False))[0] == 403  # it may only write
    assert emulator.count("upload") == 2


async def test_an_upload_in_blocks(web, emulator):
    url = writable(emulator, "/storage/container/name")
    ids = [base64.b64encode(f"{number:04}".encode()).decode() for number in range(3)]
    for block_id, content in zip(ids, (b"one", b"two", b"three"), strict=True):
        target = f"{url}&comp=block&blockid={quote(block_id, safe='')}"
        assert (await web(emulator, target, "PUT", token=False, data=content))[0] == 201
    assert emulator._state.storage.find("container", "name") is None

    async def commit(body):
        return (await web(emulator, f"{url}&comp=blocklist", "PUT", token=False, data=body))[0]

    def listing(*wanted):
        entries = "".join(f"<Latest>{block_id}</Latest>" for block_id in wanted)
        return f"<?xml version='1.0' encoding='utf-8'?><BlockList>{entries}</BlockList>".encode()

    assert await commit(listing("bm9uZQ==")) == 400
    assert await commit(b"<") == 400
    assert await commit(listing(ids[2], ids[0])) == 201
    assert emulator._state.storage.find("container", "name").content == b"threeone"
    for query in ("comp=block", "comp=lease"):
        assert (await web(emulator, f"{url}&{query}", "PUT", token=False, data=b""))[0] == 400


async def test_google_takes_a_plain_upload(web):
    async with Emulator(storage_type="google") as emulator:
        url = writable(emulator, "/storage/c/n")
        assert (await web(emulator, url, "PUT", token=False, data=b"x"))[0] == 200


async def test_uploads_have_a_bound(web, emulator, monkeypatch):
    monkeypatch.setattr(storage_module, "MAX_UPLOADED", 10)
    url = writable(emulator, "/storage/c/n")
    for size, expected in [(8, 201), (9, 201), (11, 413)]:
        response = await web(emulator, url, "PUT", token=False, data=bytes(size), headers=BLOCK)
        assert response[0] == expected
    store = emulator._state.storage
    with pytest.raises(StorageFullError):
        store.put_block("c", "other", "id", bytes(2))
    store.drop("c")
    store.put_block("c", "other", "id", bytes(10))


def test_blocks_give_their_room_back():
    store = Storage()
    for _ in range(3):
        store.put_block("c", "n", "a", bytes(100 << 20))
        assert store.commit("c", "n", ["a"]) is not None


def test_a_large_file_is_made_up_in_pieces():
    file = StoredFile("huge", 1 << 40)
    pieces = file.read((1 << 40) - 100, 1 << 40)
    assert sum(map(len, pieces)) == 100
    assert max(len(piece) for _, piece in zip(range(3), file.read(0, 1 << 40), strict=False)) <= (
        1 << 16
    )


async def test_many_downloads_at_once(web, emulator):
    links = [await link_of(web, emulator, index) for index in range(1, 9)]
    responses = await asyncio.gather(*(web(emulator, url, token=False) for url, _ in links))
    assert [len(content) for _, content, _ in responses] == [size for _, size in links]
