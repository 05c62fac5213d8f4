"""iModels that are made of a file on this machine: created, uploaded, confirmed, waited for."""

import asyncio
import hashlib

import aiohttp
import anyio
import pytest
import secrecy
from known import IMODEL, ITWIN, every
from support import Clock, RawServer, answer, cancelled_at_each_await, session_at, time_out

from itwin_async import (
    ConflictError,
    DecodeError,
    ITwinError,
    ITwinSession,
    Link,
    LinkError,
    NotFoundError,
    ResponseError,
    Retry,
    TransportError,
    UploadProgress,
    plain,
)
from itwin_async._files import upload
from itwin_async.emulator import Delay, Edit, Emulator, Reset, Status
from itwin_async.imodels.imodels import IModelBody

CONTENT = bytes(range(256)) * 4_000  # 1,024,000 bytes


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "model.bim"
    path.write_bytes(CONTENT)
    return path


def create(itwin, path, name="Bridge", **options):
    return itwin.imodels.create_imodel_from_baseline(ITWIN, name, path, **options)


async def stored(itwin, imodel):
    """The digest of the file that the storage has."""
    baseline = await itwin.imodels.get_baseline_file(imodel.id)
    async with aiohttp.ClientSession() as http, http.get(baseline.links.download.href) as response:
        return hashlib.sha256(await response.read()).hexdigest()


async def test_a_file_becomes_an_imodel(emulator, itwin, path):
    seen = []
    created = await create(itwin, path, description="As built", on_progress=seen.append)
    assert (created.name, created.description, created.state) == (
        "Bridge",
        "As built",
        "initialized",
    )
    baseline = await itwin.imodels.get_baseline_file(created.id)
    assert (baseline.file_size, baseline.state) == (len(CONTENT), "initialized")
    assert await stored(itwin, created) == hashlib.sha256(CONTENT).hexdigest()
    sent = next(got for got in emulator.requests if got.operation == "upload")
    assert "Authorization" not in sent.headers
    assert sent.headers["x-ms-blob-type"] == "BlockBlob"
    assert sent.headers["Content-Length"] == str(len(CONTENT))
    assert b'"creationMode":"fromBaseline","baselineFile":{"size":1024000}' in next(
        got.body for got in emulator.requests if got.operation == "create_imodel"
    )
    assert seen[0] == UploadProgress(0, len(CONTENT))
    assert seen[-1] == UploadProgress(len(CONTENT), len(CONTENT))
    assert [one.bytes_done for one in seen] == sorted(one.bytes_done for one in seen)


async def test_a_large_file_is_sent_in_blocks(emulator, itwin, path, monkeypatch):
    monkeypatch.setattr(upload, "MAX_SINGLE", 500_000)
    monkeypatch.setattr(upload, "BLOCK", 300_000)
    seen = []
    created = await create(itwin, path, on_progress=seen.append)
    assert await stored(itwin, created) == hashlib.sha256(CONTENT).hexdigest()
    sent = [got for got in emulator.requests if got.operation == "upload"]
    assert [got.query.get("comp") for got in sent] == ["block"] * 4 + ["blocklist"]
    assert [len(got.body) for got in sent[:4]] == [300_000, 300_000, 300_000, 124_000]
    assert len({got.query["blockid"] for got in sent[:4]}) == 4
    assert all("x-ms-blob-type" not in got.headers for got in sent)
    assert seen[-1].bytes_done == len(CONTENT)


async def test_google_storage_gets_the_file_in_one_request(path, monkeypatch):
    monkeypatch.setattr(upload, "MAX_SINGLE", 500_000)
    async with (
        Emulator(imodels=1, storage_type="google") as emulator,
        ITwinSession(emulator.credentials, base_url=emulator.url) as itwin,
    ):
        created = await create(itwin, path)
        assert await stored(itwin, created) == hashlib.sha256(CONTENT).hexdigest()
        (sent,) = (got for got in emulator.requests if got.operation == "upload")
        assert "x-ms-blob-type" not in sent.headers


@pytest.mark.slow
@pytest.mark.parametrize("fault", [Status(503), Reset(), Status(429)])
async def test_an_upload_that_fails_is_sent_again(emulator, itwin, path, fault):
    emulator.faults.add("upload", fault)
    created = await create(itwin, path)
    assert await stored(itwin, created) == hashlib.sha256(CONTENT).hexdigest()
    assert emulator.count("upload") == 2
    assert emulator.count("create_imodel") == 1


async def test_the_states_of_the_file_are_waited_for(path, monkeypatch):
    pauses = []
    async with Emulator(imodels=1, creation_time=20) as emulator:

        async def sleep(seconds):
            pauses.append(seconds)
            emulator.advance(seconds)

        monkeypatch.setattr(anyio, "sleep", sleep)
        async with ITwinSession(emulator.credentials, base_url=emulator.url) as itwin:
            assert (await create(itwin, path)).state == "initialized"
            assert pauses == [1, 2, 4, 8, 10]
            early = await create(itwin, path, "Early", wait=False)
            baseline = await itwin.imodels.get_baseline_file(early.id)
            assert baseline.state == "initializationScheduled"
            assert baseline.links.download is None


@pytest.mark.parametrize("state", ["initializationFailed", "fileIsBriefcase", "odd", None])
async def test_a_file_that_cannot_be_used_is_told(emulator, itwin, path, state):
    emulator.faults.add(
        "get_baseline_file", Edit(lambda body: body["baselineFile"].update(state=state))
    )
    with pytest.raises(ITwinError, match=f"the state of the baseline file is {state}") as caught:
        await create(itwin, path)
    (created,) = await every(itwin.imodels.list_imodels(ITWIN, name="Bridge"))
    assert f"iModel {created.id} was created" in str(caught.value)


@pytest.mark.slow
async def test_a_wait_that_takes_too_long_is_told(path):
    async with (
        Emulator(imodels=1, creation_time=3_600) as emulator,
        ITwinSession(emulator.credentials, base_url=emulator.url) as itwin,
    ):
        waiting = create(itwin, path, timeout=60)
        with pytest.raises(TimeoutError, match="in 60 s: its state is initializationScheduled"):
            await time_out(waiting, lambda: emulator.count("get_baseline_file"))


async def test_what_the_storage_refuses_is_told_without_the_signature(emulator, itwin, path):
    emulator.faults.add("upload", Status(403), times=None)
    with pytest.raises(ResponseError) as caught:
        await create(itwin, path)
    error = caught.value
    assert (error.status, error.operation) == (403, "PUT (signed URL)")
    sent = next(got for got in emulator.requests if got.operation == "upload")
    assert sent.query["sig"] not in f"{error} {error!r} {vars(error)}"
    (created,) = await every(itwin.imodels.list_imodels(ITWIN, name="Bridge"))
    assert created.id in str(error)


@pytest.mark.slow
@pytest.mark.parametrize("fault", [None, Status(503), Reset(), Delay(9)])
@pytest.mark.unmeasured
async def test_no_frame_of_an_upload_shows_the_signature(emulator, path, fault):
    """The watch of the whole suite looks for this canary."""
    url = f"{emulator.url}/storage/a/b?sv=1&sig=canary-upload-41"

    def change(body):
        body["iModel"]["_links"]["upload"]["href"] = url

    emulator.faults.add("create_imodel", Edit(change))
    if fault is not None:
        emulator.faults.add("upload", fault, times=None)
    options = {"base_url": emulator.url, "retry": Retry(2, base=0.001), "timeout": 0.3}
    async with ITwinSession(emulator.credentials, **options) as itwin:
        with pytest.raises(ITwinError) as caught:
            await create(itwin, path)
    assert "canary" not in secrecy.shown(caught.value)


async def test_no_record_shows_the_signature_of_an_upload(emulator, itwin):
    body = {"iTwinId": ITWIN, "name": "n", "baselineFile": {"size": 5}}
    answer = await itwin.request("POST", "/imodels", body=body, version="v2", returns=IModelBody)
    assert "sig=" in answer.imodel.links.upload.href
    assert "sig=" not in f"{answer.imodel!r} {answer.imodel.links!r} {plain(answer.imodel)}"
    baseline = await itwin.imodels.get_baseline_file(IMODEL)
    assert "sig=" in baseline.links.download.href
    assert "sig=" not in f"{baseline!r} {baseline.links!r} {plain(baseline)}"


async def test_a_size_that_differs_is_a_conflict(emulator, itwin, path):
    emulator.faults.add("confirm_baseline_file", Status(409, code="DataConflict"))
    with pytest.raises(ConflictError, match="DataConflict"):
        await create(itwin, path)


@pytest.mark.parametrize(
    ("links", "kind"),
    [
        ({"upload": {"href": "http://storage.example.com/a", "storageType": "azure"}}, LinkError),
        ({"upload": {"href": "https://storage.example.com/a", "storageType": "aws"}}, DecodeError),
        ({"upload": {"href": None}}, LinkError),
        ({}, LinkError),
        (None, LinkError),
    ],
)
async def test_an_upload_url_that_must_not_be_used_is_told(emulator, itwin, path, links, kind):
    emulator.faults.add("create_imodel", Edit(lambda body: body["iModel"].update(_links=links)))
    with pytest.raises(kind):
        await create(itwin, path)
    assert emulator.count("upload") == 0


async def test_a_file_that_becomes_shorter_is_told(emulator, itwin, path):
    def shorten(progress):
        path.write_bytes(b"short")

    for attempts in (1, 2):
        path.write_bytes(CONTENT)
        patient = itwin.with_options(retry=Retry(attempts, base=0.001))
        with pytest.raises(OSError, match=r"model\.bim became shorter") as caught:
            await create(patient, path, f"n{attempts}", on_progress=shorten)
        assert "was created" in caught.value.__notes__[0]


async def test_a_file_that_cannot_be_is_refused_unsent(emulator, itwin, tmp_path):
    (tmp_path / "empty").touch()
    for wrong, kind in (
        (tmp_path / "missing", FileNotFoundError),
        (tmp_path / "empty", ValueError),
        (tmp_path, OSError),
        ("", ValueError),
        ("https://example.com/a", ValueError),
        (5, TypeError),
    ):
        with pytest.raises(kind):
            await create(itwin, wrong)
    for options in ({"on_progress": 5}, {"wait": 1}, {"timeout": 0}, {"description": 5}):
        with pytest.raises((TypeError, ValueError)):
            await create(itwin, tmp_path / "empty", **options)
    assert not emulator.requests


async def test_confirming_needs_a_file_that_is_waited_for(emulator, itwin):
    with pytest.raises(ITwinError, match="InvalidiModelsRequest") as caught:
        await itwin.imodels.confirm_baseline_file(IMODEL)
    assert caught.value.details[0].code == "InvalidChange"
    body = {"iTwinId": ITWIN, "name": "n", "baselineFile": {"size": 5}}
    created = await itwin.request("POST", "/imodels", body=body, version="v2")
    with pytest.raises(NotFoundError, match="FileNotFound"):
        await itwin.imodels.confirm_baseline_file(created["iModel"]["id"])
    link = created["iModel"]["_links"]["upload"]["href"]
    async with aiohttp.ClientSession(headers={"x-ms-blob-type": "BlockBlob"}) as http:
        await http.put(link, data=b"four")
    with pytest.raises(ConflictError, match="DataConflict"):
        await itwin.imodels.confirm_baseline_file(created["iModel"]["id"])


async def test_a_storage_that_takes_nothing_ends_the_upload(path):
    """Each piece has the session's timeout, not the whole file."""

    async def stall(connection):
        await connection.reader.readuntil(b"\r\n\r\n")
        await asyncio.Event().wait()

    path.write_bytes(CONTENT * 20)
    source = upload.FileSource(path)
    async with (
        RawServer(stall) as storage,
        session_at(storage, timeout=0.1, retry=Retry(1)) as itwin,
    ):
        link = Link(href=f"{storage.url}/a/b/c?sig=x", storage_type="azure")
        try:
            source.open()
            with pytest.raises(TransportError, match="did not answer within"):
                await upload.Upload(itwin._executor, source, link, None).run()
        finally:
            source.close()


async def test_a_storage_that_is_slow_is_waited_for(path):
    """The file takes longer than the session's timeout, each piece of it does not."""
    path.write_bytes(CONTENT * 24)
    source, received = upload.FileSource(path), []

    async def read_slowly(connection):
        await connection.reader.readuntil(b"\r\n\r\n")
        while sum(received) < source.size:
            piece = await connection.reader.read(1 << 16)
            if not piece:
                return  # the client gave up
            received.append(len(piece))
            clock.forward(0.02)
        await connection.send(answer(status="201 Created"))

    with Clock() as clock:
        began = asyncio.get_running_loop().time()
        options = {"timeout": 3.0, "retry": Retry(1)}
        async with RawServer(read_slowly) as server, session_at(server, **options) as itwin:
            try:
                source.open()
                link = Link(href=f"{server.url}/a/b/c?sig=x", storage_type="azure")
                await upload.Upload(itwin._executor, source, link, None).run()
            finally:
                source.close()
        assert asyncio.get_running_loop().time() - began > 6
    assert sum(received) == source.size


@pytest.mark.parametrize("when", ["waiting", "ready"])
async def test_an_upload_that_is_cancelled_at_any_await_leaves_no_file_open(
    emulator, itwin, path, cancel_kind, when
):
    path.write_bytes(CONTENT[:600_000])
    sources, init, seen = [], upload.FileSource.__init__, []

    def remember(source, path):
        init(source, path)
        sources.append(source)

    async def check(number):
        seen.append(number)
        assert all(source._file is None for source in sources), number

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(upload.FileSource, "__init__", remember)
        awaits, created = await cancelled_at_each_await(
            cancel_kind, lambda: create(itwin, path, f"n{len(seen)}"), check, when=when
        )
    assert awaits > 8
    assert created.state == "initialized"
