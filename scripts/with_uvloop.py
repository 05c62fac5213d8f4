"""A plugin of pytest: every asynchronous test on uvloop. ``pytest -p with_uvloop``."""

import inspect
from collections.abc import Callable

import pytest
import uvloop


def pytest_asyncio_loop_factories() -> dict[str, Callable[[], uvloop.Loop]]:
    """See pytest-asyncio."""
    return {"uvloop": uvloop.new_event_loop}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what uvloop cannot do."""
    forward = pytest.mark.skip(reason="puts the loop's clock forward; uvloop has its own, in C")
    for item in items:
        if (
            isinstance(item, pytest.Function)
            and "Clock" in inspect.unwrap(item.obj).__code__.co_names
        ):
            item.add_marker(forward)
