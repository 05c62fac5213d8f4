async def test_it_lists(itwin):
    assert len([e async for e in itwin.extensions.list_extensions()]) == 30
