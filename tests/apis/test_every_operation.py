"""What is the same for every operation: token, version, rate limit, permissions."""

from typing import get_origin

import pytest
from calling import call
from declared import OPERATIONS

from itwin_async import (
    ExtendedData,
    ForbiddenError,
    InvalidRequestError,
    Pager,
    RateLimitError,
    UnauthorizedError,
)
from itwin_async._core.records import Record
from itwin_async.emulator import Status, Throttle


async def run(itwin, name):
    called = call(itwin, name)
    return await (called.first() if isinstance(called, Pager) else called)


@pytest.mark.parametrize("name", OPERATIONS)
async def test_an_operation_without_a_valid_token_is_unauthorized(emulator, itwin, name):
    emulator.faults.add(name, Status(401, code="HeaderNotFound"), times=None)
    with pytest.raises(UnauthorizedError, match="401 HeaderNotFound"):
        await run(itwin, name)
    assert emulator.count(name) == 2


@pytest.mark.parametrize("name", OPERATIONS)
async def test_an_operation_without_permission_is_forbidden(emulator, itwin, name):
    emulator.faults.add(name, Status(403, code="InsufficientPermissions"), times=None)
    with pytest.raises(ForbiddenError, match="403 InsufficientPermissions") as caught:
        await run(itwin, name)
    assert not caught.value.outcome_unknown
    assert caught.value.operation == str(OPERATIONS[name])
    assert emulator.count(name) == 1


@pytest.mark.parametrize("name", OPERATIONS)
async def test_an_operation_that_is_throttled_for_too_long_is_told(emulator, itwin, name):
    emulator.faults.add(name, Throttle(9_999), times=None)
    code = "TooManyRequests|RateLimitExceeded"
    with pytest.raises(RateLimitError, match=f"429 ({code})"):
        await run(itwin, name)
    assert emulator.count(name) == 1


@pytest.mark.parametrize("name", OPERATIONS)
async def test_an_operation_asks_for_the_version_of_its_api(emulator, itwin, name):
    emulator.faults.add(name, Status(400), times=None)
    with pytest.raises(InvalidRequestError):
        await run(itwin, name)
    (sent,) = (got for got in emulator.requests if got.operation == name)
    version = "v2" if sent.path.startswith(("/imodels", "/webhooks")) else "v1"
    assert sent.headers["Accept"] == f"application/vnd.bentley.itwin-platform.{version}+json"
    assert sent.headers["Authorization"].startswith("Bearer ")


WRITES = [name for name, operation in OPERATIONS.items() if operation.method == "POST"]


@pytest.mark.parametrize("name", WRITES)
async def test_a_post_is_not_repeated_where_its_outcome_is_unknown(emulator, itwin, name):
    emulator.faults.add(name, Status(502), times=None)
    with pytest.raises(Exception, match="it may have been carried out") as caught:
        await run(itwin, name)
    assert caught.value.outcome_unknown
    assert emulator.count(name) == 1


LISTS = [name for name in OPERATIONS if name.startswith("list_")]


@pytest.mark.parametrize("name", LISTS)
async def test_a_list_knows_the_type_of_its_items(itwin, name):
    """From which tables take their columns."""
    kind = call(itwin, name).item_type
    assert kind is dict or issubclass(get_origin(kind) or kind, Record | ExtendedData)
