"""Arguments that no operation can have are refused before anything is sent."""

import re
from functools import partial
from typing import Any

import msgspec
import pytest
from calling import call
from declared import OPERATIONS
from known import ACCOUNT, IMODEL, ITWIN, UNKNOWN, Files

from itwin_async import (
    NotFoundError,
)


def in_itself():
    data: dict[str, Any] = {}
    data["a"] = data
    return data


BAD_IDS = ["", " ", ".", "..", "a/b", "../x", "a\\b", "a\x00b", "a\r\nb", "\ud800"]


def call_with(name, place, itwin, bad):
    return call(itwin, name, **{place: bad})


LONGER = {
    "wait_until_ready": lambda i, bad: i.extensions.wait_until_ready(bad, "1.0.0"),
    "download_version": lambda i, bad: i.extensions.download_version(bad, "1.0.0", "x"),
    "download_version number": lambda i, bad: i.extensions.download_version(UNKNOWN, bad, "x"),
    "wait_until_created": lambda i, bad: i.imodels.wait_until_created(bad),
    "list_imodels": lambda i, bad: i.imodels.list_imodels(bad),
    "list_favorites": lambda i, bad: i.imodels.list_favorites(bad),
    "list_recents": lambda i, bad: i.imodels.list_recents(bad),
    "create_imodel": lambda i, bad: i.imodels.create_imodel(bad, "n"),
    "clone_imodel": lambda i, bad: i.imodels.clone_imodel(IMODEL, bad),
    "fork_imodel": lambda i, bad: i.imodels.fork_imodel(IMODEL, bad),
}
# Each id in the path of an operation, and those of what the contract names besides.
BY_ID = LONGER | {
    f"{name} {place}": partial(call_with, name, place)
    for name, operation in OPERATIONS.items()
    for place in re.findall(r"{(\w+)}", operation.path)
}


async def refuses(use, itwin, bad, error) -> None:
    with pytest.raises(error) as caught:
        found = use(itwin, bad)
        if hasattr(found, "__await__"):
            await found
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("name", BY_ID)
async def test_an_id_that_could_name_another_path_is_refused_unsent(emulator, itwin, name):
    for bad in BAD_IDS:
        await refuses(BY_ID[name], itwin, bad, ValueError)
    for bad in (None, b"x", 1.5, True):
        await refuses(BY_ID[name], itwin, bad, TypeError)
    assert not emulator.requests


async def test_an_id_with_characters_of_a_url_stays_one_segment(emulator, itwin):
    with pytest.raises(NotFoundError, match="iModelNotFound"):
        await itwin.imodels.get_imodel("a?x=1#y%2Fz&é ~")
    assert emulator.requests[-1].target == "/imodels/a%3Fx%3D1%23y%252Fz%26%C3%A9%20~"


WRONG = {
    "page_size 0": (lambda i: i.extensions.list_extensions(page_size=0), ValueError),
    "page_size text": (lambda i: i.extensions.list_extensions(page_size="9"), TypeError),
    "page_size bool": (lambda i: i.imodels.list_imodels(ITWIN, page_size=True), TypeError),
    "page_size 1001": (lambda i: i.imodels.list_imodels(ITWIN, page_size=1_001), ValueError),
    "changesets 1001": (lambda i: i.imodels.list_changesets(IMODEL, page_size=1_001), ValueError),
    "data 1001": (lambda i: i.imodels.list_extended_data(IMODEL, page_size=1_001), ValueError),
    "itwins 1001": (lambda i: i.itwins.list_itwins(page_size=1_001), ValueError),
    "after_index": (lambda i: i.imodels.list_changesets(IMODEL, after_index=-1), ValueError),
    "last_index": (lambda i: i.imodels.list_changesets(IMODEL, last_index="5"), TypeError),
    "order": (lambda i: i.imodels.list_changesets(IMODEL, order="up"), ValueError),
    "changeset -1": (lambda i: i.imodels.get_changeset(IMODEL, -1), ValueError),
    "search": (lambda i: i.extensions.list_extensions(search=5), TypeError),
    "studio": (lambda i: i.extensions.list_extensions(is_itwin_studio_app="no"), TypeError),
    "deprecated": (
        lambda i: i.extensions.list_versions(UNKNOWN, include_deprecated="no"),
        TypeError,
    ),
    "representation": (lambda i: i.imodels.list_imodels(ITWIN, representation="no"), TypeError),
    "include_inactive": (lambda i: i.itwins.list_itwins(include_inactive="no"), TypeError),
    "status and inactive": (
        lambda i: i.itwins.list_itwins(status="Active", include_inactive=True),
        ValueError,
    ),
    "data_type": (lambda i: i.imodels.list_extended_data(IMODEL, 5), TypeError),
    "data_type list": (lambda i: i.imodels.list_extended_data(IMODEL, list[int]), TypeError),
    "data_type of one": (lambda i: i.imodels.get_extended_data(IMODEL, 1, int), TypeError),
    "name": (lambda i: i.extensions.create_extension("", ACCOUNT), ValueError),
    "name type": (lambda i: i.extensions.create_extension(5, ACCOUNT), TypeError),
    "name none": (lambda i: i.extensions.create_extension(None, ACCOUNT), TypeError),
    "itwin_id": (lambda i: i.extensions.create_extension("n", " "), ValueError),
    "description": (
        lambda i: i.extensions.create_extension("n", ACCOUNT, description=5),
        TypeError,
    ),
    "timeout 0": (
        lambda i: i.extensions.wait_until_ready(UNKNOWN, "1", timeout=0),
        ValueError,
    ),
    "timeout nan": (
        lambda i: i.extensions.wait_until_ready(UNKNOWN, "1", timeout=float("nan")),
        ValueError,
    ),
    "timeout text": (
        lambda i: i.extensions.wait_until_ready(UNKNOWN, "1", timeout="1"),
        TypeError,
    ),
    "directory": (lambda i: i.extensions.download_version(UNKNOWN, "1", 5), TypeError),
    "directory empty": (lambda i: i.extensions.download_version(UNKNOWN, "1", ""), ValueError),
    "archive": (
        lambda i: i.extensions.download_version(UNKNOWN, "1", "x", archive="no"),
        TypeError,
    ),
    "overwrite": (
        lambda i: i.extensions.download_version(UNKNOWN, "1", "x", overwrite=1),
        TypeError,
    ),
    "data list": (lambda i: i.imodels.create_extended_data(IMODEL, 1, [1]), TypeError),
    "data text": (lambda i: i.imodels.create_extended_data(IMODEL, 1, "{}"), TypeError),
    "data none": (lambda i: i.imodels.create_extended_data(IMODEL, 1, None), TypeError),
    "data set": (lambda i: i.imodels.create_extended_data(IMODEL, 1, {1}), TypeError),
    "data object": (lambda i: i.imodels.create_extended_data(IMODEL, 1, object()), TypeError),
    "data with an object": (
        lambda i: i.imodels.create_extended_data(IMODEL, 1, {"a": object()}),
        TypeError,
    ),
    "data raw": (
        lambda i: i.imodels.create_extended_data(IMODEL, 1, msgspec.Raw(b"{bad")),
        ValueError,
    ),
    "data surrogate": (
        lambda i: i.imodels.create_extended_data(IMODEL, 1, {"a": "\ud800"}),
        ValueError,
    ),
    "data in itself": (
        lambda i: i.imodels.create_extended_data(IMODEL, 1, in_itself()),
        ValueError,
    ),
    "changeset of data": (lambda i: i.imodels.create_extended_data(IMODEL, -1, {}), ValueError),
    "variables": (lambda i: i.packages.execute_package(ITWIN, "P", variables=[]), TypeError),
    "variable": (lambda i: i.packages.execute_package(ITWIN, "P", variables={"a": 1}), TypeError),
    "variable name": (
        lambda i: i.packages.execute_package(ITWIN, "P", variables={1: "a"}),
        TypeError,
    ),
    "variable without a name": (
        lambda i: i.packages.execute_package(ITWIN, "P", variables={"": "a"}),
        ValueError,
    ),
    "as_xml": (lambda i: i.packages.execute_package(ITWIN, "P", as_xml=1), TypeError),
    "as_xml and returns": (
        lambda i: i.packages.execute_package(ITWIN, "P", as_xml=True, returns=Files),
        ValueError,
    ),
    "returns": (lambda i: i.packages.execute_package(ITWIN, "P", returns=5), TypeError),
    "row_type": (lambda i: i.packages.list_entities(ITWIN, "P", "S", 5), TypeError),
    "rows page_size": (
        lambda i: i.packages.list_entities(ITWIN, "P", "S", page_size=0),
        ValueError,
    ),
    "rows select": (lambda i: i.packages.list_entities(ITWIN, "P", "S", select=["a"]), TypeError),
    "rows filter": (lambda i: i.packages.list_entities(ITWIN, "P", "S", filter=5), TypeError),
    "rows orderby": (lambda i: i.packages.list_entities(ITWIN, "P", "S", orderby=5), TypeError),
    "itwins type": (lambda i: i.itwins.list_itwins(type=5), TypeError),
    "itwins scope": (lambda i: i.itwins.list_itwins(query_scope="mine\r\nX: y"), ValueError),
    "search and number": (lambda i: i.itwins.list_itwins(search="a", number="b"), ValueError),
    "search and name": (lambda i: i.itwins.list_itwins(search="a", display_name="b"), ValueError),
    "filter and type": (lambda i: i.itwins.list_itwins(filter="a", type="b"), ValueError),
    "filter and status": (lambda i: i.itwins.list_itwins(filter="a", status="b"), ValueError),
    "filter and inactive": (
        lambda i: i.itwins.list_itwins(filter="a", include_inactive=True),
        ValueError,
    ),
    "roles": (lambda i: i.packages.get_package("roles"), ValueError),
    "itwin_id of extensions": (lambda i: i.extensions.list_extensions(itwin_id=""), ValueError),
}


@pytest.mark.parametrize(("use", "error"), WRONG.values(), ids=WRONG)
async def test_an_argument_that_cannot_be_is_refused_unsent(emulator, itwin, use, error):
    await refuses(lambda i, _: use(i), itwin, None, error)
    assert not emulator.requests
