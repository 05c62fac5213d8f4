"""Changeset files survive cut connections, links that end, and a storage that is not itself."""

import asyncio
import shutil
from pathlib import Path

import pytest
from changesets import (
    IMODEL,
    QUICK,
    TAG,
    ChangesetServer,
    contents,
    cut_off,
    id_of,
    named,
    on_disk,
    refused,
)
from support import Running, answer, cancelled_at_each_await, head, session_at, until

from itwin_async import (
    ForbiddenError,
    InvalidRequestError,
    Retry,
    ServerError,
    TransportError,
)

BIG = bytes(range(256)) * 400


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def session(server, **options):
    options.setdefault("retry", QUICK)
    return session_at(server, **options)


# Cut connections


@pytest.mark.slow
async def test_every_file_that_is_cut_goes_on_where_it_was(tmp_path):
    async with ChangesetServer(contents(40), page=15) as server, session(server) as itwin:
        server.broken = lambda index, got, before: (
            server.stored(index, got, at=len(server.files[index - 1]) // 2) if before < 2 else None
        )
        await itwin.imodels.download_changesets(IMODEL, tmp_path)
    assert on_disk(tmp_path) == server.expected()
    for index, content in enumerate(server.files, 1):
        if len(content) > 1:
            assert server.ranges(index)[:2] == [None, f"bytes={len(content) // 2}-"]


async def test_a_connection_that_is_always_cut_ends_the_download_and_keeps_the_part(tmp_path):
    async with ChangesetServer([BIG]) as server, session(server, retry=Retry(2, base=0)) as itwin:
        server.broken = lambda index, got, before: cut_off(BIG, 5_000 if not before else 0, '"x"')
        with pytest.raises(TransportError) as caught:
            await itwin.imodels.download_changesets(IMODEL, tmp_path)
        assert caught.value.reason == "cut"
    assert named(tmp_path) == {}


async def test_another_session_goes_on_with_the_part(tmp_path):
    async with ChangesetServer([BIG]) as server, session(server, retry=Retry(1)) as itwin:
        server.broken = lambda index, got, before: server.stored(index, got, at=60_000)
        with pytest.raises(TransportError):
            await itwin.imodels.download_changesets(IMODEL, tmp_path)
        left = on_disk(tmp_path)
        assert left == {
            f".{id_of(1)}.cs.part": BIG[:60_000],
            f".{id_of(1)}.cs.etag": TAG.format(1).encode(),
        }
        server.broken = lambda *_: None
        async with session(server) as other:
            done = await other.imodels.download_changesets(IMODEL, tmp_path)
    assert on_disk(tmp_path) == server.expected()
    assert server.ranges(1)[-1] == "bytes=60000-"
    assert done.existing == 0


@pytest.mark.parametrize(
    "tag", ['"of-another-file"', None, 'W/"weak"', "\0" * 9, '"torn', '"a"\r\nX: y']
)
async def test_a_part_of_another_content_begins_anew(tmp_path, tag):
    (tmp_path / f".{id_of(1)}.cs.part").write_bytes(b"?" * 50_000)
    if tag is not None:
        (tmp_path / f".{id_of(1)}.cs.etag").write_text(tag)
    async with ChangesetServer([BIG]) as server, session(server) as itwin:
        await itwin.imodels.download_changesets(IMODEL, tmp_path)
    assert on_disk(tmp_path) == server.expected()


async def test_a_storage_that_knows_no_if_range_is_caught_by_its_entity_tag(tmp_path):
    """Azure documents no If-Range: it sends the range that was asked for, with its entity tag."""
    (tmp_path / f".{id_of(1)}.cs.part").write_bytes(b"?" * 50_000)
    (tmp_path / f".{id_of(1)}.cs.etag").write_text('"of-another-file"')

    def serve(index, got, before):
        got.headers.pop("if-range", None)
        return server.stored(index, got)

    async with ChangesetServer([BIG]) as server, session(server) as itwin:
        server.broken = serve
        await itwin.imodels.download_changesets(IMODEL, tmp_path)
    assert on_disk(tmp_path) == server.expected()
    assert server.ranges(1) == ["bytes=50000-", None]


@pytest.mark.parametrize("size", [len(BIG), len(BIG) + 1])
@pytest.mark.parametrize("tag", [True, False])
async def test_a_part_as_large_as_the_file(tmp_path, size, tag):
    part = (BIG + b"?")[:size]
    (tmp_path / f".{id_of(1)}.cs.part").write_bytes(part)
    if tag:
        (tmp_path / f".{id_of(1)}.cs.etag").write_text(TAG.format(1))
    async with ChangesetServer([BIG]) as server, session(server) as itwin:
        await itwin.imodels.download_changesets(IMODEL, tmp_path)
    assert on_disk(tmp_path) == server.expected()
    # Whole, and known to be of one content: it only lacks its name.
    assert len(server.asked) == (0 if tag and size == len(BIG) else 1)


async def test_a_range_that_is_refused_begins_anew(tmp_path):
    async with ChangesetServer([BIG]) as server, session(server) as itwin:
        server.broken = lambda index, got, before: {
            0: cut_off(BIG, 5_000, TAG.format(1)),
            1: answer(b"", status="416 No"),
        }.get(before)
        await itwin.imodels.download_changesets(IMODEL, tmp_path)
    assert on_disk(tmp_path) == server.expected()
    assert server.ranges(1) == [None, "bytes=5000-", None]


async def test_a_storage_without_entity_tags_and_ranges_does(tmp_path):
    async with ChangesetServer([BIG]) as server, session(server) as itwin:
        server.broken = lambda index, got, before: (
            head(f"Content-Length: {len(BIG)}") + BIG[: 5_000 if not before else None]
        )
        await itwin.imodels.download_changesets(IMODEL, tmp_path)
    assert on_disk(tmp_path) == server.expected()


@pytest.mark.slow
async def test_a_storage_that_fails_now_and_then(tmp_path):
    async with ChangesetServer(contents(20)) as server, session(server) as itwin:
        server.broken = lambda index, got, before: {
            (3, 0): answer(b"busy", "Retry-After: 0", status="503 Busy"),
            (8, 0): answer(b"", "Retry-After: 0", status="429 Slow"),
            (8, 1): answer(b"", status="500 Bad"),
            (15, 0): head("Content-Length: 5"),
        }.get((index, before))
        await itwin.imodels.download_changesets(IMODEL, tmp_path)
        assert itwin.stats.pauses == 0
    assert on_disk(tmp_path) == server.expected()


async def test_the_first_file_that_fails_ends_the_call_and_leaves_whole_files(tmp_path):
    files = [b"x" * size for size in range(1, 21)]
    async with ChangesetServer(files) as server, session(server) as itwin:
        server.broken = lambda index, got, before: (
            answer(b"", status="500 Bad") if index == 9 else None
        )
        with pytest.raises(ServerError) as caught:
            await itwin.imodels.download_changesets(IMODEL, tmp_path, workers=1)
        assert caught.value.__notes__ == [f"This was about changeset 9 ({id_of(9)})."]
    assert named(tmp_path) == server.expected(*range(1, 9))


# Links that end


@pytest.mark.parametrize("status", ["403 No", "401 No", "400 ExpiredToken", "410 Gone"])
async def test_a_link_that_has_ended_is_renewed(tmp_path, status):
    async with ChangesetServer(contents(25), page=10) as server, session(server) as itwin:
        server.broken = lambda index, got, before: (
            answer(b"", status=status) if before == 0 and index % 4 == 0 else None
        )
        await itwin.imodels.download_changesets(IMODEL, tmp_path)
    assert on_disk(tmp_path) == server.expected()
    renewed = [got.target for got in server.requests if f"/changesets/{id_of(4)}" in got.target]
    assert len(renewed) == 1


async def test_all_links_of_a_page_that_end_at_once_are_renewed(tmp_path):
    def end(index, got, before):
        if index == 5 and before == 0:
            server.signature += 1  # those of all other files end as well

    async with ChangesetServer([b"x"] * 30) as server, session(server) as itwin:
        server.broken = end
        await itwin.imodels.download_changesets(IMODEL, tmp_path)
    assert on_disk(tmp_path) == server.expected()


async def test_a_link_that_ends_while_the_file_arrives_goes_on_where_it_was(tmp_path):
    def end(index, got, before):
        if before == 0:
            return server.stored(index, got, at=50_000)
        if before == 1:
            server.signature += 1
        return None

    async with ChangesetServer([BIG]) as server, session(server) as itwin:
        server.broken = end
        await itwin.imodels.download_changesets(IMODEL, tmp_path)
    assert on_disk(tmp_path) == server.expected()
    assert server.ranges(1) == [None, "bytes=50000-", "bytes=50000-"]


async def test_links_that_end_again_and_again_are_renewed_as_long_as_bytes_come(tmp_path):
    async with ChangesetServer([BIG]) as server, session(server) as itwin:
        server.broken = lambda index, got, before: (
            refused() if before % 2 else server.stored(index, got, at=10_000 * (before // 2 + 1))
        )
        await itwin.imodels.download_changesets(IMODEL, tmp_path)
    assert on_disk(tmp_path) == server.expected()
    assert len(server.asked) > 15


async def test_a_link_that_is_always_refused_ends_the_download(tmp_path):
    async with ChangesetServer([BIG]) as server, session(server) as itwin:
        server.broken = lambda *_: refused()
        with pytest.raises(ForbiddenError) as caught:
            await itwin.imodels.download_changesets(IMODEL, tmp_path)
        assert caught.value.operation == "GET (signed URL)"
    assert len(server.asked) == 4
    assert named(tmp_path) == {}


async def test_a_right_that_was_taken_away_meanwhile_says_so(tmp_path):
    async with ChangesetServer([BIG]) as server, session(server) as itwin:

        def take_away(*_):
            server.change = lambda found: found["_links"].update(download=None)
            return refused()

        server.broken = take_away
        with pytest.raises(ForbiddenError, match="imodels_read"):
            await itwin.imodels.download_changesets(IMODEL, tmp_path)


async def test_another_refusal_of_the_storage_is_not_renewed(tmp_path):
    async with ChangesetServer([BIG]) as server, session(server) as itwin:
        server.broken = lambda *_: answer(b"", status="422 No")
        with pytest.raises(InvalidRequestError):
            await itwin.imodels.download_changesets(IMODEL, tmp_path)
    assert len(server.asked) == 1


# What is in the way


async def test_a_directory_where_a_file_is_to_go(tmp_path):
    (tmp_path / f"{id_of(2)}.cs").mkdir()
    async with ChangesetServer([b"one", b"two"]) as server, session(server) as itwin:
        with pytest.raises(IsADirectoryError, match="a file is to go there"):
            await itwin.imodels.download_changesets(IMODEL, tmp_path)


async def test_a_link_where_a_part_is_to_be_gathered_is_refused(tmp_path):
    precious = tmp_path / "precious"
    precious.write_bytes(b"mine")
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / f".{id_of(1)}.cs.part").symlink_to(precious)
    async with ChangesetServer([BIG]) as server, session(server) as itwin:
        with pytest.raises(FileExistsError, match="is a link"):
            await itwin.imodels.download_changesets(IMODEL, tmp_path / "in")
    assert precious.read_bytes() == b"mine"


async def test_a_directory_that_may_not_be_written_is_named(tmp_path):
    (tmp_path / "file").touch()
    async with ChangesetServer([BIG]) as server, session(server) as itwin:
        with pytest.raises(NotADirectoryError, match="file"):
            await itwin.imodels.download_changesets(IMODEL, tmp_path / "file" / "in")
        assert not server.requests


async def test_leftovers_of_a_killed_process_beside_a_whole_file_are_removed(tmp_path):
    async with ChangesetServer([BIG]) as server, session(server) as itwin:
        await itwin.imodels.download_changesets(IMODEL, tmp_path)
        for ending in ("part", "etag", "lock"):
            (tmp_path / f".{id_of(1)}.cs.{ending}").write_bytes(b"left")
        await itwin.imodels.download_changesets(IMODEL, tmp_path)
    assert on_disk(tmp_path) == server.expected()


# Cancellation


@pytest.mark.slow
@pytest.mark.parametrize("when", ["waiting", "ready"])
async def test_a_download_that_is_cancelled_at_any_await_leaves_what_can_be_resumed(
    cancel_kind, when, tmp_path
):
    files = [BIG[:40_000], b"c"]
    async with ChangesetServer(files, page=1) as server, session(server) as itwin:

        async def check(number: int) -> None:
            for name, data in (
                on_disk(tmp_path / "in") if (tmp_path / "in").exists() else {}
            ).items():
                assert not name.endswith(".lock"), number
                if name.endswith(".cs"):
                    assert server.expected()[name] == data, number
                elif name.endswith(".part"):
                    whole = server.expected()[name[1:-5]]
                    assert whole.startswith(data), number
            done = await itwin.imodels.download_changesets(IMODEL, tmp_path / "in")
            assert on_disk(tmp_path / "in") == server.expected(), number
            assert done.files == 2, number
            shutil.rmtree(tmp_path / "in")

        awaits, done = await cancelled_at_each_await(
            cancel_kind,
            lambda: itwin.imodels.download_changesets(
                IMODEL, tmp_path / "in", workers=1, on_progress=lambda _: None
            ),
            check,
            when=when,
        )
    assert awaits > 20
    assert done.files == 2


async def test_closing_the_session_ends_a_download(tmp_path):
    part = tmp_path / f".{id_of(1)}.cs.part"
    async with ChangesetServer([BIG]) as server:
        server.stall_at = 40_000
        itwin = session(server)
        task = asyncio.create_task(itwin.imodels.download_changesets(IMODEL, tmp_path))
        await until(lambda: part.exists() and part.stat().st_size == 40_000)
        await itwin.aclose()
        with pytest.raises(RuntimeError, match="closed"):
            await task
    assert named(tmp_path) == {}


# Several at once


@pytest.mark.slow
async def test_two_downloads_to_one_directory_share_the_work(tmp_path):
    async with (
        ChangesetServer(contents(60), page=25) as server,
        session(server) as one,
        session(server) as other,
    ):
        first, second = await asyncio.gather(
            one.imodels.download_changesets(IMODEL, tmp_path),
            other.imodels.download_changesets(IMODEL, tmp_path),
        )
    assert on_disk(tmp_path) == server.expected()
    assert (first.files, second.files) == (60, 60)
    assert len(server.asked) == 60  # none was fetched twice
    assert first.existing + second.existing == 60


async def test_the_other_one_takes_over_when_one_is_cancelled(tmp_path, cancel_kind):
    part = tmp_path / f".{id_of(1)}.cs.part"
    async with ChangesetServer([BIG]) as server:
        server.stall_at = 40_000
        async with session(server) as one, session(server) as other:
            first = Running(cancel_kind, one.imodels.download_changesets(IMODEL, tmp_path))
            await until(lambda: part.exists() and part.stat().st_size == 40_000)
            second = asyncio.create_task(other.imodels.download_changesets(IMODEL, tmp_path))
            await until(lambda: len([g for g in server.requests if "changesets" in g.target]) == 2)
            server.stall_at = None
            first.cancel()
            with pytest.raises(asyncio.CancelledError):
                await first
            await second
    assert on_disk(tmp_path) == server.expected()
    assert server.ranges(1) == [None, "bytes=40000-"]


async def test_nothing_of_the_lock_is_left_open(tmp_path):
    before = open_files()
    async with ChangesetServer(contents(30)) as server, session(server) as itwin:
        await itwin.imodels.download_changesets(IMODEL, tmp_path)
    await until(lambda: open_files() <= before)
