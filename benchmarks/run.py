"""Compare the library with its peers.

    python benchmarks/run.py [--full] [--only NAME] [--rounds N] [--write]

The short set takes less than five minutes, the full one about twenty. Every client runs in a
process of its own on one core, the server on another where the system can pin them; the clients
take turns within a round, and ratios are taken within a round. What a client counted is held
against what the server holds: a client that did less work fails the run.
"""

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import report
from dataset import WARM_UP
from scenarios import GROWTH, PEERS, PLAIN, SCENARIOS, Runner, Scenario

HERE = Path(__file__).parent
WORK = HERE / ".work"  # git-ignored: node's packages and the last results
TS_PACKAGE = "@itwin/imodels-client-management"
TS_VERSION = "6.2.2"
PATIENCE = 180  # seconds that one run may take
SHORT = 240  # seconds after which the short set makes do with one round of what is left


class Failed(Exception):  # noqa: N818
    """A run that cannot be counted."""


def cores() -> tuple[int, int] | None:
    """Choose a core for the clients and one for the server, where there are two to be had."""
    if not hasattr(os, "sched_setaffinity"):
        return None
    available = sorted(os.sched_getaffinity(0))
    return (available[0], available[-1]) if len(available) > 1 else None


def pin(core: int | None) -> Callable[[], None] | None:
    """Make what a child process does first: move to its core."""
    return None if core is None else lambda: os.sched_setaffinity(0, {core})


def environment() -> dict[str, str]:
    """Make the environment of all clients: no proxy, and this library beside them."""
    kept = {name: value for name, value in os.environ.items() if "proxy" not in name.lower()}
    return {**kept, "PYTHONPATH": str(HERE.parent), "NODE_ENV": "production"}


class Server:
    """The server's process, as the harness sees it."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        self.base = f"http://127.0.0.1:{int(process.stdout.readline())}"
        self._open = urllib.request.build_opener(urllib.request.ProxyHandler({})).open

    def tell(self, method: str, path: str) -> dict[str, Any]:
        request = urllib.request.Request(self.base + path, method=method)
        with self._open(request, timeout=PATIENCE) as response:
            return json.load(response)

    def prepare(self, scenario: Scenario) -> dict[str, int]:
        """Build every answer of a scenario before its first run."""
        what = "single=1" if scenario.requests else f"lists={scenario.lists}&top={scenario.top}"
        return self.tell("POST", f"/_prepare?imodel={scenario.data.imodel_id}&{what}")


@contextmanager
def serving(core: int | None) -> Iterator[Server]:
    """Run the server for as long as it is needed, and not longer."""
    process = subprocess.Popen(
        [sys.executable, HERE / "server.py"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        preexec_fn=pin(core),  # noqa: PLW1509
    )
    try:
        yield Server(process)
    finally:
        process.kill()
        process.wait()


def command(client: str) -> list[str | Path]:
    """Give the command that runs a client, its last argument left to be added."""
    if client == "ts":
        return ["node", HERE / "ts_client.mjs", WORK]
    return [sys.executable, HERE / "clients.py", client]


def install_ts() -> None:
    """Install the TypeScript client, once. `Failed` where that cannot be done."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        raise Failed("node and npm are not there")
    manifest = WORK / "node_modules" / TS_PACKAGE / "package.json"
    if manifest.exists() and json.loads(manifest.read_text())["version"] == TS_VERSION:
        return
    WORK.mkdir(exist_ok=True)
    wanted = {"private": True, "dependencies": {TS_PACKAGE: TS_VERSION}}
    (WORK / "package.json").write_text(json.dumps(wanted))
    npm = ["npm", "install", "--no-package-lock", "--no-audit", "--no-fund", "--ignore-scripts"]
    try:
        subprocess.run(npm, cwd=WORK, check=True, capture_output=True, timeout=PATIENCE)
    except (subprocess.SubprocessError, OSError) as error:
        raise Failed(f"npm could not install {TS_PACKAGE}: {type(error).__name__}") from None


def probe(client: str) -> dict[str, str]:
    """Ask a client for its versions. `Failed` where it cannot run."""
    if client == "ts":
        install_ts()
    done = subprocess.run(
        [*command(client), "versions"],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
        env=environment(),
    )
    if done.returncode:
        raise Failed((done.stderr.strip().splitlines() or ["it does not start"])[-1])
    return json.loads(done.stdout)


def run(
    runner: Runner, scenario: Scenario, server: Server, core: int | None, *, stall: bool
) -> dict[str, Any]:
    """Run one client once and hold what it counted against what there is."""
    requests = scenario.requests // runner.share
    single = replace(scenario.data, total=requests)
    lists = [replace(scenario.data, number=n).imodel_id for n in range(scenario.lists)]
    spec = {
        "base": server.base,
        "lists": lists,
        "top": scenario.top,
        "bound": scenario.bound,
        "requests": requests,
        "ahead": runner.ahead,
        "as_struct": runner.as_struct,
        "stall": stall,
        "warm_up": [WARM_UP.imodel_id],
    }
    server.tell("POST", "/_reset")
    try:
        done = subprocess.run(
            [*command(runner.client), json.dumps(spec)],
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=True,
            env=environment(),
            preexec_fn=pin(core),
        )
    except subprocess.CalledProcessError as error:
        raise Failed(error.stderr[-2000:]) from None
    except subprocess.TimeoutExpired:
        raise Failed(f"took more than {PATIENCE} s") from None
    outcome = json.loads(done.stdout)
    stats = server.tell("GET", "/_stats")
    held = single if requests else scenario.data
    for name, expected in (
        ("entries", held.total * scenario.lists),
        ("items", held.items() * scenario.lists),
        ("indexes", held.total * (held.total + 1) // 2 * scenario.lists),
    ):
        if outcome[name] != expected:
            raise Failed(f"{name}: {outcome[name]} instead of {expected}")
    # Before single requests are timed, as many are made as may be in flight.
    needed = requests + scenario.bound if requests else scenario.pages
    outcome["extra"] = stats["requests"] - needed
    outcome["past_the_end"] = stats["past_the_end"]
    outcome["max_in_flight"] = stats["max_in_flight"]
    # Single requests are compared by their rate: not every client makes as many.
    outcome["wall"] *= runner.share
    outcome["cpu"] *= runner.share
    return outcome


def measure(
    scenario: Scenario,
    rounds: int,
    server: Server,
    core: int | None,
    left_out: dict[str, str],
    failures: list[str],
    deadline: float,
) -> dict[str, Any]:
    """Run all rounds of a scenario, every client in each, starting with another each time."""
    say(f"{scenario.name}: {scenario.title}")
    size = server.prepare(scenario)["bytes"]
    every = [r for r in (*scenario.peers, *scenario.ours) if r.client not in left_out]
    broken: set[str] = set()

    def one_round(number: int, runners: list[Runner], *, stall: bool) -> dict[str, Any]:
        outcomes: dict[str, Any] = {}
        turn = number % len(runners) if runners else 0
        for runner in (*runners[turn:], *runners[:turn]):
            if runner.label in broken:
                continue
            try:
                outcome = run(runner, scenario, server, core, stall=stall)
            except Failed as error:
                broken.add(runner.label)
                say(f"  FAILED {runner.label}: {error}")
                what = (str(error).splitlines() or [""])[-1]
                failures.append(f"{scenario.name}, {runner.label}: {what}")
                continue
            outcomes[runner.label] = outcome
            figure = f"stall {outcome['stall'] * 1e3:7.1f} ms" if stall else ""
            say(f"  {number + 1}/{rounds} {runner.label:16} {outcome['wall']:8.3f} s  {figure}")
        return outcomes

    beating = [r for r in scenario.stall if r.client not in left_out]
    timed: list[dict[str, Any]] = []
    stalls: list[dict[str, Any]] = []
    for number in range(rounds):
        if number and time.monotonic() > deadline:
            say(f"  time is up: {number} of {rounds} rounds")
            break
        timed.append(one_round(number, every, stall=False))
        if beating:
            stalls.append(one_round(number, beating, stall=True))
    return {"bytes": size, "rounds": timed, "stall": stalls}


def machine() -> dict[str, str]:
    """Say what this ran on: the size of the machine, not its name."""
    model = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        names = [line for line in info.read_text().splitlines() if line.startswith("model name")]
        model = names[0].partition(": ")[2] if names else model
    facts = {"system": f"{platform.system()} {platform.machine()}", "processor": model}
    facts["cores"] = str(os.cpu_count())
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        facts["memory"] = f"{memory / 2**30:.0f} GiB"
    return facts


def say(text: str) -> None:
    """Show progress, apart from the results."""
    print(text, file=sys.stderr, flush=True)


def main() -> int:
    """Run what was asked for. The exit status tells whether all of it ran, not how fast."""
    parser = argparse.ArgumentParser(description="Compare the library with its peers.")
    parser.add_argument("--full", action="store_true", help="every scenario, more rounds")
    parser.add_argument("--only", metavar="NAME", help="one scenario, or those that begin so")
    parser.add_argument("--rounds", type=int, help="rounds of every scenario")
    parser.add_argument("--write", action="store_true", help="put the results into README.md")
    arguments = parser.parse_args()
    if arguments.write and arguments.only:
        parser.error("--write needs a whole set: leave out --only")

    versions: dict[str, str] = {"python": platform.python_version()}
    left_out: dict[str, str] = {}
    for client in dict.fromkeys(runner.client for runner in (*PEERS, PLAIN)):
        try:
            versions |= probe(client)
        except Failed as error:
            left_out[client] = str(error)
            say(f"!!! {client.upper()} IS LEFT OUT: {error}")

    chosen = [(s, s.full if arguments.full else s.short) for s in SCENARIOS]
    if arguments.full or arguments.only:
        chosen += [(s, s.full) for growth in GROWTH for _, s in growth.steps]
    if arguments.only:
        named = [s for s, _ in chosen if s.name == arguments.only]
        begun = [s for s, _ in chosen if s.name.startswith(arguments.only)]
        chosen = [(s, n or s.full) for s, n in chosen if s in (named or begun)]
        if not chosen:
            parser.error(f"no scenario begins with {arguments.only}")
    pinned = cores()
    client_core, server_core = pinned or (None, None)
    failures: list[str] = []
    started = time.monotonic()
    deadline = started + (SHORT if not (arguments.full or arguments.only) else float("inf"))
    results: dict[str, Any] = {
        "date": datetime.now(UTC).date().isoformat(),
        "command": " ".join(["python", "benchmarks/run.py", *sys.argv[1:]]),
        "machine": machine(),
        "load": f"{os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else "unknown",
        "pinned": pinned is not None,
        "versions": versions,
        "left_out": left_out,
        "scenarios": {},
    }
    with serving(server_core) as server:
        for scenario, rounds in chosen:
            count = arguments.rounds or rounds
            if rounds:
                results["scenarios"][scenario.name] = measure(
                    scenario, count, server, client_core, left_out, failures, deadline
                )
    results["failures"] = failures
    results["seconds"] = round(time.monotonic() - started)

    WORK.mkdir(exist_ok=True)
    (WORK / "results.json").write_text(json.dumps(results))
    print(report.text(results))
    if arguments.write:
        report.write(results, HERE)
    return 1 if failures or PLAIN.client in left_out else 0


if __name__ == "__main__":
    sys.exit(main())
