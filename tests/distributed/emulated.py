"""The emulator in a process of its own, which tells when each request came.

Run as a script it serves what `Platform` asks for: a line of JSON in, a line of JSON out.
"""

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Self

from itwin_async.emulator import Edit, Emulator, RequestRecord, Status, Throttle

API = ("list_imodels", "list_changesets", "list_extended_data")


@dataclass(frozen=True)
class Arrived:
    """A request: its operation, its iModel, its answer, and when (seconds, as all processes)."""

    operation: str
    imodel_id: str
    status: int | None
    started: float
    ended: float | None


class Platform:
    """The emulator, seen from the tests."""

    def __init__(self, **options: Any) -> None:
        self._process = subprocess.Popen(
            [sys.executable, __file__, json.dumps(options)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.environment: dict[str, str] = self._read_response()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.stdin.close()
        assert self._process.wait(20) == 0
        self._process.stdout.close()

    def _read_response(self) -> Any:
        return json.loads(self._process.stdout.readline())

    def ask(self, what: str, **how: Any) -> Any:
        self._process.stdin.write(json.dumps({"what": what, **how}) + "\n")
        self._process.stdin.flush()
        return self._read_response()

    def arrived(self, *operations: str) -> list[Arrived]:
        """The requests so far, in their order; those of the API where nothing is named."""
        found = [Arrived(*item) for item in self.ask("arrived")]
        return [item for item in found if item.operation in (operations or API)]

    def wait_for(self, count: int, operation: str = "list_extended_data") -> float:
        """When so many requests of a kind have come."""
        return until(
            lambda: (found := self.arrived(operation))[count - 1 :] and found[count - 1].started
        )


def until(true: Callable[[], object], seconds: float = 60.0) -> Any:
    """What a function gives as soon as it is true."""
    end = time.monotonic() + seconds
    while not (found := true()):
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.02)
    return found


def most_in(arrived: list[Arrived], seconds: float = 60.0) -> int:
    """The most requests in any window of so many seconds."""
    times = sorted(item.started for item in arrived)
    first = most = 0
    for position, moment in enumerate(times):
        while times[first] <= moment - seconds:
            first += 1
        most = max(most, position - first + 1)
    return most


def longest_silence(arrived: list[Arrived]) -> tuple[float, float]:
    """The longest time without a request: when it began, and its seconds."""
    times = sorted(item.started for item in arrived)
    return max(((one, other - one) for one, other in pairwise(times)), key=lambda item: item[1])


def _imodel(record: RequestRecord) -> str:
    parts = record.path.split("/")
    return parts[2] if len(parts) > 2 else ""


async def _imodels(emulator: Emulator) -> list[dict[str, str]]:
    from itwin_async import ITwinSession  # noqa: PLC0415 - the script alone needs it

    async with ITwinSession(emulator.credentials, base_url=emulator.url) as itwin:
        return [
            {"id": imodel.id, "itwin_id": item.id}
            async for item in itwin.itwins.list_itwins()
            async for imodel in itwin.imodels.list_imodels(item.id, page_size=1_000)
        ]


def _handle(emulator: Emulator, what: str, how: Any) -> Any:
    def of_imodel(operation: str) -> Callable[[Any], bool]:
        return lambda record: (
            record.operation == operation
            and _imodel(record) in how.get("imodels", (_imodel(record),))
        )

    if what == "arrived":
        return [
            [item.operation, _imodel(item), item.status, item.started, item.ended]
            for item in emulator.requests
        ]
    if what == "tokens":
        tokens = {item.headers.get("Authorization", "") for item in emulator.requests}
        return sorted(item.removeprefix("Bearer ") for item in tokens if item)
    if what == "token":
        return emulator.issue_token()
    if what == "throttle":
        emulator.throttle(how["seconds"])
    elif what == "throttle one":
        emulator.faults.add(of_imodel("list_extended_data"), Throttle(how["seconds"]))
    elif what == "refuse":
        emulator.faults.add(
            of_imodel(how["operation"]), Status(how["status"]), times=how.get("times")
        )
    elif what == "spoil":

        def edit(body: Any) -> Any:
            for index in how["entries"]:
                body["extendedData"][index]["data"] = "no base64!"
            return body

        emulator.faults.add(of_imodel("list_extended_data"), Edit(edit), times=None)
    elif what == "push":
        for imodel_id in how["imodels"]:
            data = {"data": {"taskId": "new", "changedFiles": []}}
            emulator.push_changeset(imodel_id, data if how.get("data", True) else None)
    elif what == "store":
        emulator.store_extended_data(how["imodel"], how["changeset"], {"data": {}})
    elif what == "delete":
        emulator.delete_imodel(how["imodel"])
    elif what == "advance":
        emulator.advance(how["seconds"])
    elif what == "forget":
        emulator.faults.clear()
        emulator.requests.clear()
    return None


def respond(response: object) -> None:
    sys.stdout.write(json.dumps(response) + "\n")
    sys.stdout.flush()


async def _serve(options: dict[str, Any]) -> None:
    loop = asyncio.get_running_loop()
    async with Emulator(**options) as emulator:
        respond(emulator.environment)
        while line := await loop.run_in_executor(None, sys.stdin.readline):
            asked = json.loads(line)
            what = asked.pop("what")
            response = (
                await _imodels(emulator) if what == "imodels" else _handle(emulator, what, asked)
            )
            respond(response)


if __name__ == "__main__":
    asyncio.run(_serve(json.loads(sys.argv[1])))
