"""A list that is used as something else says how it is used."""

import pytest

from itwin_async import merged
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


@pytest.mark.parametrize("use", [len, lambda pager: pager[0], lambda pager: pager[:3]])
async def test_a_length_or_an_index_says_how_to_get_some_or_all(use, emulator: Emulator, itwin):
    with pytest.raises(TypeError, match=r"no length or index: .* `pager\.take\(3\)` the first"):
        use(itwin.imodels.list_changesets(IMODEL))
    assert not emulator.requests


async def test_searching_it_says_how_to_search(emulator: Emulator, itwin):
    with pytest.raises(TypeError, match="searched with `async for`: wanted in"):
        assert IMODEL in itwin.imodels.list_changesets(IMODEL)
    assert not emulator.requests


async def test_a_list_is_true_and_not_asked_for_its_length(itwin):
    assert itwin.imodels.list_changesets(IMODEL)


async def test_a_loop_over_a_running_list_or_pages_says_async_for(emulator: Emulator, itwin):
    pager = itwin.imodels.list_changesets(IMODEL)
    for running in (aiter(pager), pager.pages()):
        with pytest.raises(TypeError, match=r"iterated with `async for`, not with `for`$"):
            list(running)
    assert not emulator.requests


async def test_a_merged_stream_says_how_it_is_read(emulator: Emulator, itwin):
    stream = merged([itwin.imodels.list_changesets(IMODEL)])
    with pytest.raises(TypeError, match=r"`async with merged\(pagers\) as items:`, then `async f"):
        list(stream)
    with pytest.raises(TypeError, match=r"then `async for item in items:`$"):
        await stream
    assert not emulator.requests


async def test_a_session_says_how_it_is_entered(emulator: Emulator, itwin):
    with pytest.raises(TypeError, match=r"entered with `async with`, not `with`$"), itwin:
        pass
    assert not emulator.requests
