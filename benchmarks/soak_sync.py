"""An hour of a platform's life in minutes, synced all the while, and compared row for row.

    python benchmarks/soak_sync.py [--seed 1] [--minutes 60] [--imodels 60]

Each emulated minute applications push changesets, with data, without, or with data that is stored
late; iModels are created and deleted; the platform throttles, resets and cuts connections. A sync
runs as a process of its own, and is killed at random; a feed follows in this process, and is
cancelled and begun anew from its checkpoint. Loopback only; some three minutes. The exit code is 1
when the data set or the feed does not have exactly what the platform has.
"""

import argparse
import asyncio
import base64
import contextlib
import json
import os
import random
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

import pyarrow.parquet as pq

from itwin_async import ITwinError, ITwinSession, Retry
from itwin_async.emulator import Cut, Emulator, Reset, Status, Throttle
from itwin_async.sync import ChangeFeed

TIME_LIMIT = 900.0  # seconds, then the soak has failed
SETTLE = 300.0
LOOK_BACK = 20
FAULTS = (Throttle(1), Reset(), Cut(700), Cut(3_000, reset=True), Status(503, headers={}))
Row = tuple[str, int, str, str]  # iModel, index, changeset, payload


@dataclass
class Life:
    """What happens on the platform, by chance from the seed."""

    emulator: Emulator
    itwin_id: str
    chance: random.Random
    happened: Counter[str] = field(default_factory=Counter[str])
    waiting: list[tuple[datetime, str, int]] = field(default_factory=list)  # to be stored late
    deleted: dict[str, set[Row]] = field(default_factory=dict)  # with what they had

    @property
    def imodels(self) -> list[str]:
        """The iModels that are there."""
        state = self.emulator._state.imodels  # noqa: SLF001 - what a client cannot see at once
        return [imodel.id for imodel in state.values() if imodel.itwin_id == self.itwin_id]

    def minute(self) -> None:
        """One minute passes."""
        chance, emulator = self.chance, self.emulator
        for _ in range(chance.randrange(6)):
            imodel = chance.choice(self.imodels)
            for _ in range(chance.choice((1, 1, 1, 4))):
                self._push(imodel)
        for due, imodel, index in [*self.waiting]:
            if due <= emulator.now:
                self.waiting.remove((due, imodel, index))
                if imodel in self.imodels:
                    emulator.store_extended_data(imodel, index, {"late": index})
                    self.happened["stored late"] += 1
        if chance.random() < 0.15:
            self._store_for_an_old_changeset(chance.choice(self.imodels))
        if chance.random() < 0.1:
            self._push(emulator.add_imodel(self.itwin_id))
            self.happened["created"] += 1
        if chance.random() < 0.05 and len(self.imodels) > 5:
            gone = chance.choice(self.imodels)
            self.deleted[gone] = self.rows_of(gone)
            emulator.delete_imodel(gone)
            self.happened["deleted"] += 1
        for _ in range(chance.randrange(3)):
            emulator.faults.add("/imodels", chance.choice(FAULTS), after=chance.randrange(20))
            self.happened["faults"] += 1
        emulator.advance(60)

    def _push(self, imodel: str) -> None:
        """A changeset, with its data, without, or with data that comes within ``settle``."""
        kind = self.chance.choice(("data", "data", "none", "late"))
        data = {"files": [f"{self.chance.randrange(1_000)}.dgn"]} if kind == "data" else None
        index = self.emulator.push_changeset(imodel, data)
        self.happened["pushed"] += 1
        if kind == "late":
            due = self.emulator.now + timedelta(seconds=self.chance.uniform(0, SETTLE - 70))
            self.waiting.append((due, imodel, index))

    def _store_for_an_old_changeset(self, imodel: str) -> None:
        """Long after its push, with a new push: within ``look_back``, so it has to be found."""
        state = self.emulator._state.imodels[imodel]  # noqa: SLF001
        newest = state.changeset_count
        free = [n for n in range(max(1, newest - LOOK_BACK + 3), newest) if not state.has_data(n)]
        planned = {index for _, owner, index in self.waiting if owner == imodel}
        if choices := [n for n in free if n not in planned]:
            self.emulator.store_extended_data(imodel, self.chance.choice(choices), {"old": 1})
            self.emulator.push_changeset(imodel)
            self.happened["stored long after"] += 1

    def rows_of(self, imodel: str) -> set[Row]:
        """What the platform has of an iModel."""
        state = self.emulator._state.imodels[imodel]  # noqa: SLF001
        return {
            (imodel, index, state.changeset_id(index), payload_of(state.data(index)))
            for index in state.data_indexes()
        }


def payload_of(data: str) -> str:
    """A payload in one form, from its base64."""
    return canonical(base64.b64decode(data))


def canonical(payload: bytes | str) -> str:
    """JSON without what its writer chose."""
    return json.dumps(json.loads(payload), sort_keys=True)


class Follower:
    """A feed in this process, cancelled now and then, and begun anew from its checkpoint."""

    def __init__(self, life: Life) -> None:
        self.rows: list[Row] = []
        self.restarts = 0
        self._life = life
        self._checkpoint: str | None = None

    async def look(self) -> None:
        """Begin a pass, and cancel it by chance."""
        task = asyncio.create_task(self._pass())
        if self._life.chance.random() < 0.5:
            for _ in range(self._life.chance.randrange(400)):
                await asyncio.sleep(0)
            task.cancel()
            self.restarts += 1
        with contextlib.suppress(asyncio.CancelledError, ITwinError):
            await task

    async def _pass(self) -> None:
        emulator = self._life.emulator
        session = ITwinSession(
            emulator.credentials, base_url=emulator.url, retry=Retry(base=0.01, cap=0.1)
        )
        async with session as itwin:
            feed = ChangeFeed(
                itwin,
                itwin_id=self._life.itwin_id,
                checkpoint=self._checkpoint,
                every=None,
                look_back=LOOK_BACK,
                settle=SETTLE,
            )
            try:
                async with feed:
                    async for entry in feed:
                        self.rows.append(
                            (
                                entry.imodel_id,
                                entry.changeset_index,
                                entry.changeset_id,
                                canonical(entry.payload),
                            )
                        )
            finally:
                self._checkpoint = feed.checkpoint


async def run_sync(life: Life, target: Path, *, may_be_killed: bool) -> None:
    """One sync as a process, killed by chance."""
    arguments = ("extended-data", "sync", "--itwin", life.itwin_id, str(target), "--timeout", "5")
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "itwin_async", *arguments),
        env={**os.environ, **life.emulator.environment},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    if may_be_killed and life.chance.random() < 0.6:
        requests = life.chance.randrange(1, 12)
        before = len(life.emulator.requests)
        while len(life.emulator.requests) < before + requests and process.returncode is None:
            await asyncio.sleep(0.0005)
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        life.happened["syncs killed"] += 1
    else:
        life.happened["syncs"] += 1
    _, err = await process.communicate()
    if not may_be_killed and process.returncode:
        raise RuntimeError(f"the last sync failed: {err.decode()}")


def read(target: Path) -> list[Row]:
    """What a plain reader finds in the data set."""
    columns = ("imodel_id", "changeset_index", "changeset_id", "data")
    rows = [row for part in target.glob("*.parquet") for row in pq.read_table(part).to_pylist()]
    return [(*(row[name] for name in columns[:3]), canonical(row["data"])) for row in rows]


def problems(life: Life, who: str, rows: list[Row]) -> list[str]:
    """What is missing, or there twice, or never was on the platform."""
    found = []
    if len(set(rows)) < len(rows):
        found.append(f"{who}: {len(rows) - len(set(rows))} rows are there twice")
    alive = {row for imodel in life.imodels for row in life.rows_of(imodel)}
    once = set().union(*life.deleted.values()) if life.deleted else set[Row]()
    if missing := alive - set(rows):
        found.append(f"{who}: {len(missing)} rows are missing, such as {min(missing)}")
    if foreign := set(rows) - alive - once:
        found.append(f"{who}: {len(foreign)} rows are not the platform's: {min(foreign)}")
    return found


async def soak(seed: int, minutes: int, imodels: int, target: Path) -> list[str]:
    """Live so many minutes, and compare."""
    async with Emulator(
        imodels=imodels, changesets=40, extended_data_every=2, extensions=3, max_items=25
    ) as emulator:
        async with ITwinSession(emulator.credentials, base_url=emulator.url) as itwin:
            project = await itwin.itwins.list_itwins(sub_class="Project").first()
        if project is None:
            raise RuntimeError("the emulator has no project")
        life = Life(emulator, project.id, random.Random(seed))
        follower = Follower(life)
        for minute in range(minutes):
            life.minute()
            await asyncio.gather(
                run_sync(life, target, may_be_killed=True),
                follower.look(),
            )
            if not minute % 10:
                found = len(read(target))
                print(f"minute {minute}: {found:,} rows, {dict(life.happened)}", flush=True)
                emulator.requests.clear()
        emulator.faults.clear()
        for _ in range(6):  # until the last push has settled
            emulator.advance(60)
            for due, imodel, index in life.waiting:
                if due <= emulator.now and imodel in life.imodels:
                    emulator.store_extended_data(imodel, index, {"late": index})
            life.waiting = [late for late in life.waiting if late[0] > emulator.now]
        life.chance.random = lambda: 1.0  # type: ignore[method-assign]  # nobody is cancelled now
        await run_sync(life, target, may_be_killed=False)
        await follower.look()
        print(f"the feed was begun {follower.restarts} times anew")
        return problems(life, "data set", read(target)) + problems(life, "feed", follower.rows)


def main() -> int:
    """Run the soak; 1 if something is wrong."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--minutes", type=int, default=60)
    parser.add_argument("--imodels", type=int, default=60)
    arguments = parser.parse_args()
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as directory:
        work = soak(arguments.seed, arguments.minutes, arguments.imodels, Path(directory) / "set")
        found = asyncio.run(asyncio.wait_for(work, TIME_LIMIT))
    for problem in found:
        print(problem, file=sys.stderr)
    print(
        f"{arguments.minutes} minutes in {time.monotonic() - began:.0f} s:",
        "bad" if found else "good",
    )
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
