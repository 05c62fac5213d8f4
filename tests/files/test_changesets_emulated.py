"""Changeset files of the emulator: both kinds of storage, links that end, rights, new pushes."""

import asyncio

import pytest
from changesets import IMODEL, QUICK, id_of, named, on_disk

from itwin_async import DownloadProgress, ForbiddenError, ITwinSession, UserSignIn
from itwin_async.emulator import Emulator


def session(emulator: Emulator) -> ITwinSession:
    return ITwinSession(emulator.credentials, base_url=emulator.url, retry=QUICK)


@pytest.mark.parametrize("storage_type", ["azure", "google"])
async def test_links_of_both_storages_end_and_are_renewed(tmp_path, storage_type):
    async with (
        Emulator(changesets=30, imodels=1, storage_type=storage_type) as emulator,
        session(emulator) as itwin,
    ):
        ended = False

        def end(now: DownloadProgress) -> None:
            nonlocal ended
            if now.files_done > 10 and not ended:
                ended = True
                emulator.advance(3_601)

        done = await itwin.imodels.download_changesets(IMODEL, tmp_path, workers=2, on_progress=end)
        refused = [r for r in emulator.requests if r.operation == "download" and r.status == 403]
        assert len(refused) >= 15  # each of the rest had its link from before
        assert emulator.count("get_changeset") == len(refused)
        assert all("Authorization" not in r.headers for r in emulator.requests
                   if r.operation == "download")  # fmt: skip
        sizes = {f"{c.id}.cs": c.file_size async for c in itwin.imodels.list_changesets(IMODEL)}
    assert {name: len(data) for name, data in on_disk(tmp_path).items()} == sizes
    assert done.bytes == sum(sizes.values())


async def test_what_was_pushed_meanwhile_is_fetched_alone(tmp_path):
    async with Emulator(changesets=5, imodels=1) as emulator, session(emulator) as itwin:
        await itwin.imodels.download_changesets(IMODEL, tmp_path)
        emulator.push_changeset(IMODEL, file=b"pushed")
        before = emulator.count("download")
        done = await itwin.imodels.download_changesets(IMODEL, tmp_path)
        assert (done.files, done.existing) == (6, 5)
        assert emulator.count("download") == before + 1
    assert done.paths[-1].read_bytes() == b"pushed"


async def test_a_viewer_is_told_which_permission_is_missing(tmp_path):
    async with Emulator(changesets=3, imodels=1, users=["val:viewer"]) as emulator:
        provider = UserSignIn(emulator.user_client_id)
        async with ITwinSession(provider, base_url=emulator.url) as itwin:
            flow = itwin.begin_sign_in()
            await flow.finish(emulator.sign_in_as("val", flow.url))
            with pytest.raises(ForbiddenError, match="imodels_read"):
                await itwin.imodels.download_changesets(IMODEL, tmp_path)
    assert named(tmp_path) == {}


async def test_many_imodels_into_one_directory_at_once(tmp_path):
    async with (
        Emulator(changesets=6, imodels=4) as emulator,
        session(emulator) as itwin,
    ):
        ids = [
            imodel.id
            async for listed in itwin.itwins.list_itwins()
            async for imodel in itwin.imodels.list_imodels(listed.id)
        ]
        done = await asyncio.gather(
            *(itwin.imodels.download_changesets(imodel_id, tmp_path) for imodel_id in ids)
        )
    assert len(ids) == 4
    assert [each.files for each in done] == [6] * 4
    assert len(on_disk(tmp_path)) == len({path for each in done for path in each.paths}) == 24
    assert id_of(1) not in on_disk(tmp_path)
