"""Lists to merge, and what is left of them."""

import asyncio
from collections.abc import Iterable
from typing import Any

from raw_pages import Call

from itwin_async import ITwinSession


def lists(itwin: ITwinSession, count: int, **options: Any) -> list:
    """Lists of as many iModels, named 0, 1, 2 …"""
    return [itwin.imodels.list_extended_data(f"{n}", **options) for n in range(count)]


def name_of(call: Call) -> int:
    return int(call.target.split("/")[2])


def pairs(items: Iterable[Any]) -> list[tuple[int, int]]:
    return [(int(item.imodel_id), item.changeset_index) for item in items]


def own_tasks() -> list[asyncio.Task]:
    return [task for task in asyncio.all_tasks() if "itwin_async" in task.get_name()]
