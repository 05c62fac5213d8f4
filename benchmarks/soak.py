"""A long job over a bad network, against a platform that throttles, resets and expires tokens.

    python benchmarks/soak.py [--seed 1] [--rounds 12] [--write]

A process of its own holds the emulator and, in front of it, the proxy of the tests; both misbehave
at random from the seed. Here 10,500 tasks wait at one limiter, among lists, and then
rounds of lists follow. Loopback only; about three minutes. The exit code is 1 when an
entry was missing or there twice, when memory grew or when the limiter was unfair.
"""

import argparse
import asyncio
import gc
import json
import math
import os
import platform
import random
import signal
import statistics
import sys
import time
from collections import Counter
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "tests" / "faults"))

from proxy import Line, Proxy

from itwin_async import (
    Event,
    ITwinSession,
    Limiter,
    RateLimited,
    ResponseReceived,
    Retry,
    merged,
)
from itwin_async._http.rate_limiter import RateLimiter, Slot
from itwin_async.emulator import Cut, Delay, Emulator, Fault, RequestRecord, Reset, Throttle

RESULT = Path(__file__).parent.parent / "docs" / "soak.md"
SLOTS = 256
CALLS, LISTS_AMONG_CALLS = 10_500, 200
LISTS_IN_ROUND = 240
CHANGESETS, PAGE = 120, 50
BROKEN_AT_ONCE = 40  # connections
TIME_LIMIT = 600.0  # seconds, then the job has failed
# Of a hundred requests. The 429 are one in a hundred, as the platform's would be on a bad day.
FAULTS: dict[str, tuple[float, Fault]] = {
    "429 with Retry-After: 1": (0.9, Throttle(1)),
    "429 with rubbish in Retry-After": (0.1, Throttle("soon")),
    "reset before the response": (0.4, Reset()),
    "page cut, then FIN": (0.4, Cut(2_000)),
    "page cut, then RST": (0.4, Cut(9_000, reset=True)),
    "slow response": (1.0, Delay(0.5)),
}


# The server process: the emulator, and a proxy as the network in front of it


async def serve(seed: int) -> None:
    """Serve until SIGTERM; SIGUSR1 expires all tokens. Prints its URL, and at last its counts."""
    rng = random.Random(seed)
    done: Counter[str] = Counter()
    chosen = ""
    stop, loop = asyncio.Event(), asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, stop.set)

    def is_chosen(name: str, record: RequestRecord) -> bool:
        """Whether a request meets this fault, chosen once a request when the first one is tried."""
        nonlocal chosen
        if name == next(iter(FAULTS)):
            names = [*FAULTS, ""]
            shares = [share for share, _ in FAULTS.values()]
            chosen = rng.choices(names, [*shares, 100 - sum(shares)])[0]
        if name != chosen or record.operation == "token":
            return False
        done[name] += 1
        return True

    def expire() -> None:
        done["tokens expired"] += 1
        emulator.expire_tokens()

    async def disturb(proxy: Proxy) -> None:
        """Change the quality of the network every few seconds."""
        while True:
            quality = rng.choice(("good", "good", "slow", "sliced", "narrow", "broken"))
            proxy.line = {
                "slow": Line(latency=0.02),
                "sliced": Line(slice=500),
                "narrow": Line(rate=500_000, slice=4_000),
            }.get(quality, Line())
            done[f"line {quality}"] += 1
            if quality == "broken":
                proxy.drop(rng.choice(("FIN", "RST")), most=BROKEN_AT_ONCE)
            await asyncio.sleep(rng.uniform(0.5, 2.0))

    emulator = Emulator(
        imodels=LISTS_IN_ROUND,
        changesets=CHANGESETS,
        token_lifetime=20.0,
        seed=seed,
        record=False,
    )
    for name, (_, fault) in FAULTS.items():
        emulator.faults.add(lambda record, name=name: is_chosen(name, record), fault, times=None)
    loop.add_signal_handler(signal.SIGUSR1, expire)
    async with emulator, Proxy(emulator.url) as proxy:
        imodels = [str(key) for key in emulator._state.imodels]  # noqa: SLF001
        credentials = emulator.credentials
        facts = [proxy.url, credentials.client_id, credentials.client_secret, imodels]
        print(json.dumps(facts), flush=True)
        disturbing = asyncio.create_task(disturb(proxy))
        await stop.wait()
        disturbing.cancel()
        done["connections"] = proxy.opened
    print(json.dumps(done), flush=True)


# The client process: the job


class Watched(RateLimiter):
    """A limiter that measures waits, and how often a waiter overtakes an earlier one."""

    def __init__(self, concurrency: int) -> None:
        super().__init__(concurrency, None, None)
        self.worst_wait = 0.0
        self.most_waiting = 0
        self.overtaken = 0  # places, at most
        self._came = 0
        self._last = 0

    async def acquire(self, max_wait: float = math.inf, max_total_wait: float = math.inf) -> Slot:
        """As it is, observed."""
        self._came += 1
        number, since = self._came, time.monotonic()
        slot = await super().acquire(max_wait, max_total_wait)
        self.worst_wait = max(self.worst_wait, time.monotonic() - since)
        self.overtaken = max(self.overtaken, self._last - number)
        self._last = max(self._last, number)
        return slot


class Soak:
    """The job, and what is wrong with it so far."""

    def __init__(self, itwin: ITwinSession, limiter: Watched, imodels: list[str]) -> None:
        self.itwin = itwin
        self.limiter = limiter
        self.imodels = imodels
        self.problems: list[str] = []
        self.entries = 0
        self.lists = 0
        self.blocks: list[int] = []
        self.resident: list[int] = []

    async def list_once(self, number: int) -> None:
        """One list, in one of three ways; each entry once, in order."""
        imodel = self.imodels[number % len(self.imodels)]
        pager = self.itwin.imodels.list_extended_data(imodel, page_size=PAGE)
        match number % 3:
            case 0:
                got = [item.changeset_index async for item in pager]
            case 1:
                got = [item.changeset_index async for item in pager.ahead(4)]
            case _:
                got = [item.changeset_index async for page in pager.pages() for item in page]
        self._count(imodel, got)

    async def lists_merged(self, numbers: range) -> None:
        """Many lists as one stream; each entry once."""
        pagers = [
            self.itwin.imodels.list_extended_data(imodel, page_size=PAGE)
            for imodel in (self.imodels[number % len(self.imodels)] for number in numbers)
        ]
        got: dict[str, list[int]] = {pager: [] for pager in self.imodels}
        async with merged(pagers, workers=32, buffer=256) as items:
            async for item in items:
                got[item.imodel_id].append(item.changeset_index)
        for imodel, indexes in got.items():
            if indexes:
                self._count(imodel, indexes)

    def _count(self, imodel: str, got: list[int]) -> None:
        self.lists += 1
        self.entries += len(got)
        if got != list(range(1, CHANGESETS + 1)):
            self.problems.append(f"list of {imodel}: {len(got)} entries, or not in order")

    async def one_call(self, number: int) -> None:
        """One of the ten thousand calls."""
        index = number % CHANGESETS + 1
        imodel = self.imodels[number % len(self.imodels)]
        entry = await self.itwin.imodels.get_extended_data(imodel, index)
        if entry.changeset_index != index:
            self.problems.append(f"requested entry {index}, got {entry.changeset_index}")
        self.entries += 1

    async def all_calls(self) -> None:
        """All calls at once, with lists among them."""
        tasks = [asyncio.create_task(self.one_call(number)) for number in range(CALLS)]
        tasks += [
            asyncio.create_task(self.list_once(number)) for number in range(LISTS_AMONG_CALLS)
        ]
        while any(not task.done() for task in tasks):
            self.limiter.most_waiting = max(self.limiter.most_waiting, self.limiter.waiting)
            await asyncio.wait(tasks, timeout=0.5)
        self.problems += [repr(error) for task in tasks if (error := task.exception())]

    async def round(self) -> None:
        """Lists side by side, half of them as one stream; then a look at the memory."""
        half = LISTS_IN_ROUND // 2
        jobs = [self.list_once(number) for number in range(half)]
        jobs.append(self.lists_merged(range(half, LISTS_IN_ROUND)))
        for error in await asyncio.gather(*jobs, return_exceptions=True):
            if error is not None:
                self.problems.append(repr(error))
        del jobs
        gc.collect()
        self.blocks.append(sys.getallocatedblocks())
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        self.resident.append(pages * os.sysconf("SC_PAGE_SIZE"))


def judge(soak: Soak) -> tuple[int, int, int, int]:
    """Memory in the first and the last quarter of the rounds: Python's blocks, resident bytes."""
    quarter = max(1, len(soak.blocks) // 4)
    first, last = soak.blocks[1 : quarter + 1] or soak.blocks, soak.blocks[-quarter:]
    blocks = int(statistics.median(first)), int(statistics.median(last))
    early, late = max(soak.resident[:quarter]), max(soak.resident[-quarter:])
    if blocks[1] > blocks[0] * 1.02 + 500:
        soak.problems.append(f"live objects grew: {blocks[0]:,} blocks, then {blocks[1]:,}")
    if late > early * 1.1:
        soak.problems.append(f"memory grew: {early >> 20} MiB, then {late >> 20} MiB")
    limiter = soak.limiter
    # Who is let in without a wait may be seen before one who was let in but has not woken yet.
    if limiter.overtaken > limiter.concurrency:
        soak.problems.append(f"somebody was overtaken by {limiter.overtaken} others")
    if limiter.in_use or limiter.waiting:
        soak.problems.append(f"left: {limiter.in_use} slots, {limiter.waiting} waiters")
    return *blocks, early, late


async def main(seed: int, rounds: int) -> tuple[str, int]:
    """Run the job; the report, and how many problems there were."""
    began = time.monotonic()
    server = await asyncio.create_subprocess_exec(
        sys.executable, __file__, "--serve", "--seed", str(seed), stdout=asyncio.subprocess.PIPE
    )
    if server.stdout is None:
        raise RuntimeError("no pipe")
    events: Counter[str] = Counter()
    longest_pause = 0.0

    def listen(event: Event) -> None:
        nonlocal longest_pause
        events[type(event).__name__] += 1
        if isinstance(event, ResponseReceived) and event.status == 401:
            events["401"] += 1
        if isinstance(event, RateLimited):
            longest_pause = max(longest_pause, event.seconds)

    try:
        url, client_id, secret, imodels = json.loads(await server.stdout.readline())
        os.environ.update(ITWIN_CLIENT_ID=client_id, ITWIN_CLIENT_SECRET=secret)
        os.environ["ITWIN_TOKEN_URL"] = f"{url}/connect/token"
        limiter, watched = Limiter(SLOTS), Watched(SLOTS)
        limiter._rate_limiter = watched  # noqa: SLF001 - to watch it
        retry = Retry(8, base=0.05, cap=2.0)
        async with (
            asyncio.timeout(TIME_LIMIT),
            ITwinSession.from_env(
                base_url=url, limiter=limiter, retry=retry, timeout=30.0, on_event=listen
            ) as itwin,
        ):
            soak = Soak(itwin, watched, imodels)
            await soak.all_calls()
            calls_took = time.monotonic() - began
            for number in range(rounds):
                if number % 4 == 2:
                    server.send_signal(signal.SIGUSR1)
                await soak.round()
                if sys.stdout.isatty():
                    print(f"round {number + 1} of {rounds}, {soak.lists:,} lists", end="\r")
            stats = itwin.stats
    finally:
        if server.returncode is None:
            server.terminate()
        rest, _ = await server.communicate()
    memory = judge(soak)
    counts = {
        "RetryScheduled": stats.retries,
        "RateLimited": stats.pauses,
        "TokenRenewed": stats.renewals,
    }
    for kind, count in counts.items():
        if events[kind] != count:
            soak.problems.append(f"{kind}: {events[kind]} events, but {count} counted")
    wanted = CALLS + (LISTS_AMONG_CALLS + rounds * LISTS_IN_ROUND) * CHANGESETS
    if soak.entries != wanted:
        soak.problems.append(f"{soak.entries:,} entries instead of {wanted:,}")
    took = time.monotonic() - began
    rows = {
        "entries, each once": f"{soak.entries:,} of {wanted:,}",
        "lists": f"{soak.lists:,}",
        "tasks that waited at the limiter at once": f"{watched.most_waiting:,}",
        "requests": f"{stats.requests:,}",
        "retries": f"{stats.retries:,}",
        "responses of 429": f"{stats.throttled:,}",
        "pauses for all": f"{stats.pauses:,}, the longest {longest_pause:.1f} s",
        "responses of 401": f"{events['401']:,}",
        "token renewals": f"{stats.renewals:,}",
        "worst wait for a slot": f"{watched.worst_wait:.1f} s (the calls took {calls_took:.0f} s)",
        "overtaken in the queue by at most": f"{watched.overtaken} of {SLOTS} slots",
        "bytes received": f"{stats.bytes_received:,}",
        "live blocks, first quarter and last": f"{memory[0]:,} · {memory[1]:,}",
        "resident memory, first quarter and last": f"{memory[2] >> 20} · {memory[3] >> 20} MiB",
        "time": f"{took:.0f} s",
    }
    faults = "; ".join(f"{name}: {count:,}" for name, count in sorted(json.loads(rest).items()))
    return report(seed, rounds, rows, faults, soak.problems), len(soak.problems)


def report(seed: int, rounds: int, rows: dict[str, str], faults: str, problems: list[str]) -> str:
    """The text that is printed, and kept in docs/soak.md."""
    where = (
        f"{datetime.now(UTC):%Y-%m-%d}, Python {platform.python_version()}, "
        f"aiohttp {version('aiohttp')}, {os.cpu_count()} cores shared with the server"
    )
    wrong = [f"- {problem}" for problem in problems[:20]]
    return "\n".join(
        [
            "# A long job over a bad network",
            "",
            "`make soak` runs it again; `benchmarks/soak.py` describes it.",
            "",
            f"Last result: seed {seed}, {rounds} rounds; {where}.",
            "",
            "| | |",
            "| --- | --- |",
            *(f"| {name} | {value} |" for name, value in rows.items()),
            "",
            f"Faults on the way: {faults}.",
            "",
            *([f"**{len(problems)} problems**", "", *wrong] if problems else ["Nothing was lost."]),
            "",
        ]
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--write", action="store_true", help="keep the result in docs/soak.md")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        asyncio.run(serve(options.seed))
        sys.exit()
    text, failed = asyncio.run(main(options.seed, options.rounds))
    print(text)
    if options.write and not failed:
        RESULT.parent.mkdir(exist_ok=True)
        RESULT.write_text(text, encoding="utf-8")
    sys.exit(bool(failed))
