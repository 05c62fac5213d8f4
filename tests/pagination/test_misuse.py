"""A list that is used as something else says how it is used."""

import pytest

from itwin_async.emulator import Emulator

IMODEL = "5e19bee0-3aea-4355-a9f0-c6df9989ee7d"


async def test_a_loop_without_async_says_what_to_write(emulator: Emulator, itwin):
    pager = itwin.imodels.list_changesets(IMODEL)
    for use in (iter, list, tuple, set, lambda it: [*it]):
        with pytest.raises(TypeError, match=r"`async for`: \[item async for item in pager\]$"):
            use(pager)
    assert not emulator.requests


async def test_awaiting_it_says_how_to_get_all_or_the_first(emulator: Emulator, itwin):
    with pytest.raises(TypeError, match=r"not awaited: .* `await pager\.first\(\)` the first"):
        await itwin.imodels.list_changesets(IMODEL)
    assert not emulator.requests


async def test_anext_says_how_to_get_an_iterator(emulator: Emulator, itwin):
    with pytest.raises(TypeError, match=r"no iterator: take one with `items = aiter\(pager\)`"):
        await anext(itwin.imodels.list_changesets(IMODEL))
    assert not emulator.requests


async def test_entering_it_says_what_to_enter(emulator: Emulator, itwin):
    with pytest.raises(TypeError, match=r"not entered, .* `async with aiter\(pager\) as items`$"):
        async with itwin.imodels.list_changesets(IMODEL):
            pass
    assert not emulator.requests
