"""Changeset files arrive whole, once, smallest first within a page, without the token."""

import asyncio
from pathlib import Path

import pytest
from changesets import (
    IMODEL,
    QUICK,
    ChangesetServer,
    contents,
    id_of,
    on_disk,
)
from support import answer, head, session_at, until

from itwin_async import (
    DecodeError,
    DownloadedChangesets,
    DownloadProgress,
    ForbiddenError,
    ITwinError,
    Limiter,
    LinkError,
    NotFoundError,
)
from itwin_async.limits import rate_limiter_of


async def test_all_files_arrive_and_are_not_fetched_again(tmp_path):
    directory = tmp_path / "new" / "changesets"
    async with ChangesetServer(contents(30), page=7) as server, session_at(server) as itwin:
        first = await itwin.imodels.download_changesets(IMODEL, directory)
        assert on_disk(directory) == server.expected()
        assert len(server.asked) == 30
        second = await itwin.imodels.download_changesets(IMODEL, directory)
        assert len(server.asked) == 30
    size = sum(map(len, server.files))
    ids = tuple(id_of(index) for index in range(1, 31))
    assert first == DownloadedChangesets(directory, 30, size, 0, ids)
    assert second == DownloadedChangesets(directory, 30, size, 30, ids)
    assert first.paths == tuple(directory / f"{id}.cs" for id in ids)
    assert repr(first).startswith(f"DownloadedChangesets(files=30, bytes={size}, existing=0, in ")


async def test_indexes_bound_what_is_downloaded(tmp_path):
    async with ChangesetServer(contents(9)) as server, session_at(server) as itwin:
        done = await itwin.imodels.download_changesets(
            IMODEL, tmp_path, after_index=2, last_index=5
        )
    assert on_disk(tmp_path) == server.expected(3, 4, 5)
    assert done.ids == (id_of(3), id_of(4), id_of(5))


async def test_an_imodel_without_changesets_gives_an_empty_directory(tmp_path):
    async with ChangesetServer([]) as server, session_at(server) as itwin:
        done = await itwin.imodels.download_changesets(IMODEL, tmp_path / "new")
    assert done == DownloadedChangesets(tmp_path / "new", 0, 0, 0, ())
    assert on_disk(tmp_path / "new") == {}


async def test_smaller_files_of_a_page_come_first_and_pages_one_by_one(tmp_path):
    files = [b"x" * size for size in (50, 10, 40, 20, 30, 9, 7, 8)]
    async with ChangesetServer(files, page=5) as server, session_at(server) as itwin:
        await itwin.imodels.download_changesets(IMODEL, tmp_path, workers=1)
    assert [index for index, _ in server.asked] == [2, 4, 5, 3, 1, 7, 8, 6]
    lists = [number for number, got in enumerate(server.requests) if "changesets" in got.target]
    assert lists == [0, 6]  # the second page is asked for when the first is done


@pytest.mark.parametrize(("workers", "most"), [(3, 3), (8, 4)])
async def test_as_many_at_once_as_workers_and_the_limiter_allow(tmp_path, workers, most):
    files = [b"x" * 10] * 12
    under_way: list[int] = []
    released = asyncio.Event()

    async def serve(connection):
        while True:
            got = await connection.request()
            if got.target.startswith("/account/"):
                under_way.append(1)
                await released.wait()
                await connection.send(server.stored(int(got.target.rpartition("/")[2][0]), got))
            else:
                await connection.send(server._platform(got))

    server = ChangesetServer(files[:9])
    server._handler = serve
    limiter = Limiter(4, per_minute=1)  # the list is the one request that counts
    async with server, session_at(server, limiter=limiter) as itwin:
        task = asyncio.create_task(
            itwin.imodels.download_changesets(IMODEL, tmp_path, workers=workers)
        )
        await until(lambda: len(under_way) == most)
        await asyncio.sleep(0.05)  # no further one comes
        assert len(under_way) == most
        assert limiter.in_use == most
        released.set()
        await task
    assert on_disk(tmp_path) == server.expected()
    assert rate_limiter_of(limiter).in_use == 0


async def test_a_limiter_of_one_slot_is_enough(tmp_path):
    async with (
        ChangesetServer(contents(12), page=5) as server,
        session_at(server, limiter=Limiter(1), retry=QUICK) as itwin,
    ):
        server.broken = lambda index, got, before: (
            answer(b"", status="403 No") if before == 0 and index % 3 == 0 else None
        )
        await itwin.imodels.download_changesets(IMODEL, tmp_path)
    assert on_disk(tmp_path) == server.expected()


async def test_one_changeset_by_id_or_index(tmp_path):
    async with ChangesetServer(contents(5)) as server, session_at(server) as itwin:
        third = await itwin.imodels.download_changeset(IMODEL, 3, tmp_path)
        fifth = await itwin.imodels.download_changeset(IMODEL, id_of(5), str(tmp_path))
        assert await itwin.imodels.download_changeset(IMODEL, 3, tmp_path) == third
        assert len(server.asked) == 2
    assert (third, fifth) == (tmp_path / f"{id_of(3)}.cs", tmp_path / f"{id_of(5)}.cs")
    assert on_disk(tmp_path) == server.expected(3, 5)


async def test_a_file_of_another_size_is_replaced_when_the_new_one_is_whole(tmp_path):
    files = [b"new content"]
    wrong = tmp_path / f"{id_of(1)}.cs"
    wrong.write_bytes(b"old")
    async with ChangesetServer(files) as server, session_at(server, retry=QUICK) as itwin:
        server.broken = lambda *_: answer(b"", status="404 Gone")
        with pytest.raises(NotFoundError):
            await itwin.imodels.download_changesets(IMODEL, tmp_path)
        assert wrong.read_bytes() == b"old"
        server.broken = lambda *_: None
        done = await itwin.imodels.download_changesets(IMODEL, tmp_path)
    assert on_disk(tmp_path) == server.expected()
    assert done.existing == 0


async def test_a_file_of_more_than_max_body_is_downloaded(tmp_path):
    files = [b"x" * 300_000]
    async with ChangesetServer(files) as server, session_at(server, max_body=100_000) as itwin:
        await itwin.imodels.download_changesets(IMODEL, tmp_path)
    assert on_disk(tmp_path) == server.expected()


@pytest.mark.parametrize("storage", ["google", None])
async def test_a_google_storage_is_one_too(tmp_path, storage):
    async with ChangesetServer([b"content"]) as server, session_at(server) as itwin:
        server.change = lambda found: found["_links"]["download"].update(storageType=storage)
        await itwin.imodels.download_changesets(IMODEL, tmp_path)
    assert on_disk(tmp_path) == server.expected()


# Progress


async def test_progress_in_files_and_bytes_of_all_that_is_asked_for(tmp_path):
    reports: list[DownloadProgress] = []
    async with ChangesetServer(contents(20), page=6) as server, session_at(server) as itwin:
        await itwin.imodels.download_changesets(IMODEL, tmp_path, last_index=8)
        await itwin.imodels.download_changesets(IMODEL, tmp_path, on_progress=reports.append)
    size = sum(map(len, server.files))
    existing = sum(map(len, server.files[:8]))
    assert {(now.files, now.bytes_total) for now in reports} == {(20, size)}
    assert reports[0].files_done == 6
    assert reports[-1] == DownloadProgress(20, 20, size, size)
    done = [now.bytes_done for now in reports]
    assert done == sorted(done)
    assert existing in done
    lists = [got.target for got in server.requests if "/changesets?" in got.target]
    assert sum("%24top=1000" in target or "$top=1000" in target for target in lists) == 1


async def test_progress_of_one_changeset(tmp_path):
    reports: list[DownloadProgress] = []
    async with ChangesetServer([b"x" * 500_000]) as server, session_at(server) as itwin:
        await itwin.imodels.download_changeset(IMODEL, 1, tmp_path, on_progress=reports.append)
    assert reports[0] == DownloadProgress(1, 0, 0, 500_000)
    assert reports[-1] == DownloadProgress(1, 1, 500_000, 500_000)


async def test_a_count_that_fails_does_not_fail_the_download(tmp_path):
    reports: list[DownloadProgress] = []
    async with ChangesetServer(contents(5)) as server, session_at(server, retry=QUICK) as itwin:
        platform = server._platform
        server._platform = lambda got: (
            answer(b"{}", status="422 No") if "top=1000" in got.target else platform(got)
        )
        await itwin.imodels.download_changesets(IMODEL, tmp_path, on_progress=reports.append)
    assert on_disk(tmp_path) == server.expected()
    assert reports[0].bytes_total is None
    size = sum(map(len, server.files))
    assert reports[-1].bytes_done == size


@pytest.mark.parametrize("error", [ZeroDivisionError, asyncio.CancelledError])
async def test_a_listener_that_raises_ends_nothing(tmp_path, caplog, error):
    def fail(_: DownloadProgress) -> None:
        raise error

    async with ChangesetServer(contents(5)) as server, session_at(server) as itwin:
        await itwin.imodels.download_changesets(IMODEL, tmp_path, on_progress=fail)
    assert on_disk(tmp_path) == server.expected()
    assert [record.message for record in caplog.records if record.exc_info] == [
        "on_progress failed and is not called again; the download goes on"
    ]


# What cannot be downloaded


async def test_no_link_names_the_permission(tmp_path):
    async with ChangesetServer([b"content"]) as server, session_at(server) as itwin:
        server.change = lambda found: found["_links"].update(download=None)
        with pytest.raises(ForbiddenError, match="imodels_read") as caught:
            await itwin.imodels.download_changesets(IMODEL, tmp_path)
        assert caught.value.status == 403
        assert f"changeset 1 ({id_of(1)})" in str(caught.value)
        with pytest.raises(ForbiddenError, match="imodels_read"):
            await itwin.imodels.download_changeset(IMODEL, 1, tmp_path)
    assert on_disk(tmp_path) == {}


async def test_without_a_link_what_is_there_is_there(tmp_path):
    async with ChangesetServer([b"content"]) as server, session_at(server) as itwin:
        await itwin.imodels.download_changesets(IMODEL, tmp_path)
        server.change = lambda found: found["_links"].update(download=None)
        assert (await itwin.imodels.download_changesets(IMODEL, tmp_path)).existing == 1


async def test_a_changeset_whose_file_is_still_missing_says_so(tmp_path):
    def change(found):
        found["state"] = "waitingForFile"
        found["_links"]["download"] = None

    async with ChangesetServer([b"content"]) as server, session_at(server) as itwin:
        server.change = change
        with pytest.raises(ITwinError, match="has no file: its state is waitingForFile"):
            await itwin.imodels.download_changesets(IMODEL, tmp_path)


async def test_another_storage_type_is_refused(tmp_path):
    async with ChangesetServer([b"content"]) as server, session_at(server) as itwin:
        server.change = lambda found: found["_links"]["download"].update(storageType="aws")
        with pytest.raises(ITwinError, match="type aws: this version downloads from azure and"):
            await itwin.imodels.download_changesets(IMODEL, tmp_path)
    assert not server.asked


@pytest.mark.parametrize("href", ["http://elsewhere.example/a/b?sig=canary", "ftp://a/b", "no"])
async def test_a_link_that_is_not_https_is_refused_unsent(tmp_path, href):
    async with ChangesetServer([b"content"]) as server, session_at(server) as itwin:
        server.change = lambda found: found["_links"]["download"].update(href=href)
        with pytest.raises(LinkError) as caught:
            await itwin.imodels.download_changesets(IMODEL, tmp_path)
    assert "canary" not in str(caught.value)


@pytest.mark.parametrize("id", ["../up", "a/b", "..", "a\\b", "", "nul", "a\nb"])
async def test_an_id_that_is_no_file_name_is_refused(tmp_path, id):
    async with ChangesetServer([b"content"]) as server, session_at(server) as itwin:
        server.change = lambda found: found.update(id=id)
        with pytest.raises(DecodeError) as caught:
            await itwin.imodels.download_changesets(IMODEL, tmp_path / "in")
    assert "\n" not in str(caught.value)
    assert not server.asked
    assert not (tmp_path / "up.cs").exists()


@pytest.mark.parametrize("size", [None, -1])
async def test_a_changeset_without_a_size_is_refused(tmp_path, size):
    async with ChangesetServer([b"content"]) as server, session_at(server) as itwin:
        server.change = lambda found: found.update(fileSize=size)
        with pytest.raises(DecodeError, match="has no fileSize"):
            await itwin.imodels.download_changesets(IMODEL, tmp_path)


@pytest.mark.parametrize("length", [5, 9])
@pytest.mark.parametrize("declared", [True, False])
async def test_a_file_of_another_size_than_the_platform_says_is_refused(tmp_path, length, declared):
    body = b"content and more"[:length]
    whole = answer(body) if declared else head("Connection: close") + body
    async with ChangesetServer([b"content"]) as server, session_at(server, retry=QUICK) as itwin:
        server.broken = lambda *_: whole
        with pytest.raises(ITwinError, match=r"platform says 7|cut short") as caught:
            await itwin.imodels.download_changesets(IMODEL, tmp_path)
        assert isinstance(caught.value, DecodeError) == (declared or length == 9)
        assert f"This was about changeset 1 ({id_of(1)})." in caught.value.__notes__
        assert not (tmp_path / f"{id_of(1)}.cs").exists()
        server.broken = lambda *_: None
        await itwin.imodels.download_changesets(IMODEL, tmp_path)
    assert on_disk(tmp_path) == server.expected()


# Arguments


async def test_arguments_are_checked_before_anything_is_sent(tmp_path):
    async with ChangesetServer([b"content"]) as server, session_at(server) as itwin:
        get, one = itwin.imodels.download_changesets, itwin.imodels.download_changeset
        file = tmp_path / "file"
        file.touch()
        for kind, call in (
            (ValueError, lambda: get("", tmp_path)),
            (ValueError, lambda: get(IMODEL, "")),
            (ValueError, lambda: get(IMODEL, "s3://bucket/changesets")),
            (TypeError, lambda: get(IMODEL, None)),
            (ValueError, lambda: get(IMODEL, tmp_path, workers=0)),
            (TypeError, lambda: get(IMODEL, tmp_path, workers="8")),
            (ValueError, lambda: get(IMODEL, tmp_path, after_index=-1)),
            (ValueError, lambda: get(IMODEL, tmp_path, last_index=-1)),
            (TypeError, lambda: get(IMODEL, tmp_path, on_progress=1)),
            (NotADirectoryError, lambda: get(IMODEL, file)),
            (ValueError, lambda: one(IMODEL, -1, tmp_path)),
            (TypeError, lambda: one(IMODEL, None, tmp_path)),
            (ValueError, lambda: one(IMODEL, 1, "~/changesets")),
            (NotADirectoryError, lambda: one(IMODEL, 1, file)),
        ):
            with pytest.raises(kind):
                await call()
        assert not server.requests


async def test_a_refused_list_leaves_no_directory(tmp_path):
    async with ChangesetServer([]) as server, session_at(server) as itwin:
        server._platform = lambda got: answer(b"{}", status="404 No")
        with pytest.raises(NotFoundError):
            await itwin.imodels.download_changesets(IMODEL, tmp_path / "new")
    assert not Path(tmp_path / "new").exists()
