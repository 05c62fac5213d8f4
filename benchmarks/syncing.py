"""What a second sync costs: a change feed over 1,000 iModels, then again after 10 of them changed.

Run as a script, it prints the requests and the seconds of both as a line of JSON. The emulator
counts the requests. Seconds are those of the emulator as well, which runs in the same process.
"""

import asyncio
import json
import subprocess
import sys
import time
from typing import Any

from harness import HERE, TIMEOUT, Failed, Server, environment, pin

IMODELS, CHANGED = 1_000, 10
MOST_REQUESTS = 15


async def main() -> dict[str, Any]:
    """Read all, push to some iModels, and read what is new."""
    from itwin_async import ITwinSession  # noqa: PLC0415 - the harness does without
    from itwin_async.emulator import Emulator  # noqa: PLC0415
    from itwin_async.sync import ChangeFeed  # noqa: PLC0415

    async with (
        Emulator(imodels=IMODELS, changesets=5, itwins=3, extensions=3, rows=0) as emulator,
        ITwinSession(emulator.credentials, base_url=emulator.url) as itwin,
    ):
        owner = await itwin.itwins.list_itwins(sub_class="Project").first()
        assert owner is not None
        imodels = itwin.imodels.list_imodels(owner.id, page_size=1_000)
        ids = [imodel.id async for imodel in imodels.take(CHANGED)]
        checkpoint, outcomes = None, []
        for changed in (ids, ()):
            emulator.requests.clear()
            since, rows = time.perf_counter(), 0
            async with ChangeFeed(
                itwin, itwin_id=owner.id, checkpoint=checkpoint, every=None
            ) as feed:
                async for _ in feed:
                    rows += 1
            checkpoint = feed.checkpoint
            outcomes.append(
                {
                    "requests": len(emulator.requests),
                    "rows": rows,
                    "wall": time.perf_counter() - since,
                    "checkpoint": len(checkpoint),
                }
            )
            for imodel_id in changed:
                emulator.push_changeset(
                    imodel_id, data={"data": {"taskId": "t", "changedFiles": []}}
                )
    first, second = outcomes
    return {"first": first, "second": second}


def measure(server: Server, core: int | None, *, full: bool) -> dict[str, Any]:  # noqa: ARG001
    """Run this file as a script, and check that the second sync found what was pushed."""
    done = subprocess.run(
        [sys.executable, HERE / "syncing.py"],
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=False,
        env=environment(),
        preexec_fn=pin(core),
    )
    if done.returncode:
        raise Failed(done.stderr[-500:])
    outcome: dict[str, Any] = json.loads(done.stdout)
    if outcome["second"]["rows"] != CHANGED:
        raise Failed(f"the second sync gave {outcome['second']['rows']} rows")
    return outcome


def rows(result: dict[str, Any]) -> list[list[str]]:
    """Give the line of the table: what, ours, beside, target."""
    first, second = result["first"], result["second"]
    reached = "✓" if second["requests"] <= MOST_REQUESTS else "✗"
    return [
        [
            f"second sync of {IMODELS:,} iModels of which {CHANGED} changed",
            f"{second['requests']} requests, {second['wall']:.2f} s",
            f"the first one: {first['requests']:,} requests, {first['wall']:.2f} s",
            f"≤ {MOST_REQUESTS} requests {reached}",
        ]
    ]


if __name__ == "__main__":
    print(json.dumps(asyncio.run(main())))
