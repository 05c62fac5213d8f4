"""Who works with an iModel, what the caller may do, and what it looks like."""

import struct

import pytest
from known import IMODEL, UNKNOWN, every

from itwin_async import (
    InvalidRequestError,
    ITwinSession,
    NotFoundError,
    StaticToken,
    Thumbnail,
)
from itwin_async.emulator import Edit, Emulator, Garbage

PNG = b"\x89PNG\r\n\x1a\n" + b"x" * 50
JPEG = b"\xff\xd8\xff\xe0" + b"y" * 50


async def test_the_creator_of_a_changeset_has_a_name(itwin):
    changeset = await itwin.imodels.get_changeset(IMODEL, 2)
    creator = await itwin.imodels.get_user(IMODEL, changeset.creator_id)
    assert creator.id == changeset.creator_id
    assert creator.display_name == f"{creator.given_name} {creator.surname}"
    assert creator.statistics.pushed_changesets_count == 8
    assert (
        creator.statistics.last_changeset_push_date
        == (await itwin.imodels.get_changeset(IMODEL, 23)).push_date_time
    )
    assert creator.statistics.created_versions_count == 1
    assert creator.links.self_.href.endswith(f"/imodels/{IMODEL}/users/{creator.id}")


async def test_users_are_listed_in_the_wanted_order(itwin):
    plain = await every(itwin.imodels.list_users(IMODEL, page_size=2))
    assert {user.statistics for user in plain} == {None}
    sorted_ = await every(
        itwin.imodels.list_users(IMODEL, order_by="givenName desc", representation=True)
    )
    names = [user.given_name for user in sorted_]
    assert names == sorted(names, reverse=True)
    assert {user.id for user in plain} == {user.id for user in sorted_}
    assert sum(user.statistics.pushed_changesets_count for user in sorted_) == 25
    with pytest.raises(InvalidRequestError, match="InvalidiModelsRequest"):
        await itwin.imodels.list_users(IMODEL, order_by="email").first()


async def test_permissions_are_those_of_the_caller(emulator, itwin):
    granted = await itwin.imodels.get_permissions(IMODEL)
    assert granted == {
        "imodels_webview", "imodels_read", "imodels_write", "imodels_manage", "imodels_delete",
    }  # fmt: skip
    assert isinstance(granted, frozenset)
    async with Emulator(imodels=1, users=("ray:reader", "vic:viewer", "gus:none")) as other:
        for name, expected in (
            ("ray", {"imodels_webview", "imodels_read"}),
            ("vic", {"imodels_webview"}),
            ("gus", set()),
        ):
            token = StaticToken(other.issue_token(user=name))
            async with ITwinSession(token, base_url=other.url) as session:
                assert await session.imodels.get_permissions(IMODEL) == expected


async def test_both_spellings_of_a_permission_are_one(emulator, itwin):
    words = ["imodels-delete", "imodels_delete", "brand_new"]
    emulator.faults.add("get_permissions", Edit(lambda body: {"permissions": words}))
    assert await itwin.imodels.get_permissions(IMODEL) == {"imodels_delete", "brand_new"}


async def test_a_thumbnail_has_the_wanted_size(itwin):
    for size, pixels in (("small", (400, 250)), ("large", (800, 500))):
        thumbnail = await itwin.imodels.get_thumbnail(IMODEL, size=size)
        assert thumbnail.media_type == "image/png"
        assert struct.unpack(">II", thumbnail.data[16:24]) == pixels


@pytest.mark.parametrize(("image", "media_type"), [(PNG, "image/png"), (JPEG, "image/jpeg")])
async def test_a_thumbnail_is_replaced(emulator, itwin, image, media_type):
    assert await itwin.imodels.upload_thumbnail(IMODEL, image) is None
    assert emulator.requests[-1].headers["Content-Type"] == media_type
    thumbnail = await itwin.imodels.get_thumbnail(IMODEL)
    assert thumbnail == Thumbnail(image, media_type)
    (shown,) = thumbnail._repr_mimebundle_().items()
    assert shown[0] == media_type
    assert repr(thumbnail) == f"Thumbnail(media_type={media_type!r})"


async def test_a_thumbnail_without_a_media_type_has_that_of_its_bytes(emulator, itwin):
    emulator.faults.add("get_thumbnail", Garbage(JPEG, ""))
    assert (await itwin.imodels.get_thumbnail(IMODEL)).media_type == "image/jpeg"


async def test_what_the_platform_refuses_is_told(emulator, itwin):
    for use in (
        itwin.imodels.get_thumbnail(UNKNOWN),
        itwin.imodels.upload_thumbnail(UNKNOWN, PNG),
        itwin.imodels.get_permissions(UNKNOWN),
        itwin.imodels.get_user(UNKNOWN, UNKNOWN),
        itwin.imodels.list_users(UNKNOWN).first(),
    ):
        with pytest.raises(NotFoundError, match="iModelNotFound"):
            await use
    with pytest.raises(NotFoundError, match="UserNotFound"):
        await itwin.imodels.get_user(IMODEL, UNKNOWN)
    wrong = itwin.request("PUT", f"/imodels/{IMODEL}/thumbnail", body={}, version="v2")
    with pytest.raises(InvalidRequestError, match="InvalidThumbnailFormat"):
        await wrong


WRONG = {
    "size": (lambda i: i.get_thumbnail(IMODEL, size="huge"), ValueError),
    "size none": (lambda i: i.get_thumbnail(IMODEL, size=None), ValueError),
    "image": (lambda i: i.upload_thumbnail(IMODEL, b"GIF89a"), ValueError),
    "image empty": (lambda i: i.upload_thumbnail(IMODEL, b""), ValueError),
    "image text": (lambda i: i.upload_thumbnail(IMODEL, "x.png"), TypeError),
    "order_by": (lambda i: i.list_users(IMODEL, order_by=5), TypeError),
    "representation": (lambda i: i.list_users(IMODEL, representation=1), TypeError),
    "page_size": (lambda i: i.list_users(IMODEL, page_size=0), ValueError),
}


@pytest.mark.parametrize("name", WRONG)
async def test_an_argument_that_cannot_be_is_refused_unsent(emulator, itwin, name):
    use, kind = WRONG[name]
    with pytest.raises(kind):
        await use(itwin.imodels)
    assert not emulator.requests
