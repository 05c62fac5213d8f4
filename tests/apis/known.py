"""What every test of an operation knows of the emulator's first objects."""

from typing import Any

import msgspec

from itwin_async import Pager

IMODEL = "5e19bee0-3aea-4355-a9f0-c6df9989ee7d"  # the documented examples


ITWIN = "dc914a84-e0c9-40e2-9d14-faf5ed84147f"


ACCOUNT = "76c1102e-4f33-4dfa-ad93-bcd9ab717977"


ENTITIES = "SAP_Work_Orders_Read"


UNKNOWN = "00000000-0000-4000-8000-000000000000"


async def first(pager: Pager[Any]) -> Any:
    async with aiter(pager) as items:
        return await anext(items)


async def every(pager: Pager[Any]) -> list[Any]:
    return [item async for item in pager]


class Files(msgspec.Struct, rename="camel"):
    changed_files: list[str]
