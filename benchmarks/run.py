"""Compare the library with its peers.

    python benchmarks/run.py [--full] [--only NAME] [--rounds N] [--write]

The short set takes less than five minutes, the full one about twenty. Every client runs in a
process of its own on one core, the server on another where the system can pin them; the clients
take turns within a round, and ratios are taken within a round. The harness compares what a client
counted with what the server holds: a client that did less work fails the run.
"""

import argparse
import json
import os
import platform
import sys
import time
from datetime import UTC, datetime
from typing import Any

import chart
import merging
import prefetching
import pythons
import report
import startup
import syncing
from harness import (
    HERE,
    WORK,
    Failed,
    Server,
    cores,
    machine,
    print_progress,
    probe,
    run_client,
    serving,
)
from scenarios import GROWTH, PEERS, PLAIN, SCENARIOS, Runner, Scenario

# Seconds after which one round is run of what is left, so that a set has a known end: the short one
# under five minutes, the full one under twenty.
SHORT, FULL = 220, 900
SUBJECTS = {  # what no scenario can show
    "merged": merging.measure,
    "prefetch": prefetching.measure,
    "startup": startup.measure,
    "export": pythons.measure,
    "sync": syncing.measure,
}


def measure(
    scenario: Scenario,
    rounds: int,
    server: Server,
    core: int | None,
    left_out: dict[str, str],
    failures: list[str],
    deadline: float,
) -> dict[str, Any]:
    """Run all rounds of a scenario: every client in each, and another one first each time."""
    print_progress(f"{scenario.name}: {scenario.title}")
    size = server.prepare(scenario)["bytes"]
    runners = [r for r in (*scenario.peers, *scenario.ours) if r.client not in left_out]
    broken: set[str] = set()

    def one_round(number: int, chosen: list[Runner], *, stall: bool) -> dict[str, Any]:
        outcomes: dict[str, Any] = {}
        turn = number % len(chosen) if chosen else 0
        for runner in (*chosen[turn:], *chosen[:turn]):
            if runner.label in broken:
                continue
            try:
                outcome = run_client(runner, scenario, server, core, stall=stall)
            except Failed as error:
                broken.add(runner.label)
                print_progress(f"  FAILED {runner.label}: {error}")
                reason = (str(error).splitlines() or [""])[-1]
                failures.append(f"{scenario.name}, {runner.label}: {reason}")
                continue
            outcomes[runner.label] = outcome
            figure = f"stall {outcome['stall'] * 1e3:7.1f} ms" if stall else ""
            print_progress(
                f"  {number + 1}/{rounds} {runner.label:16} {outcome['wall']:8.3f} s  {figure}"
            )
        return outcomes

    with_heartbeat = [r for r in scenario.stall if r.client not in left_out]
    timed: list[dict[str, Any]] = []
    stalls: list[dict[str, Any]] = []
    for number in range(rounds):
        if number and time.monotonic() > deadline:
            print_progress(f"  time is up: {number} of {rounds} rounds")
            break
        timed.append(one_round(number, runners, stall=False))
        if with_heartbeat:
            stalls.append(one_round(number, with_heartbeat, stall=True))
    return {"bytes": size, "rounds": timed, "stall": stalls}


def main() -> int:
    """Run the chosen set. The exit status says whether all of it ran, not how fast."""
    parser = argparse.ArgumentParser(description="Compare the library with its peers.")
    parser.add_argument("--full", action="store_true", help="every scenario, more rounds")
    parser.add_argument(
        "--only", metavar="NAME", help="one scenario or subject, or those that begin so"
    )
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
            print_progress(f"!!! {client.upper()} IS LEFT OUT: {error}")

    chosen = [(s, s.full if arguments.full else s.short) for s in SCENARIOS]
    if arguments.full or arguments.only:
        chosen += [(s, s.full) for growth in GROWTH for _, s in growth.steps]
    if arguments.only:
        exact = [s for s, _ in chosen if s.name == arguments.only]
        matching = [s for s, _ in chosen if s.name.startswith(arguments.only)]
        chosen = [(s, n or s.full) for s, n in chosen if s in (exact or matching)]
        if not chosen and not any(name.startswith(arguments.only) for name in SUBJECTS):
            parser.error(f"nothing begins with {arguments.only}")
    pinned = cores()
    client_core, server_core = pinned or (None, None)
    failures: list[str] = []
    started = time.monotonic()
    deadline = started + (FULL if arguments.full or arguments.only else SHORT)
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
        for name, measure_subject in SUBJECTS.items():
            if not arguments.only or name.startswith(arguments.only):
                print_progress(name)
                try:
                    results[name] = measure_subject(server, client_core, full=arguments.full)
                except Failed as error:
                    failures.append(f"{name}: {error}")
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
        report.write(results, HERE, chart.chart)
    return 1 if failures or PLAIN.client in left_out else 0


if __name__ == "__main__":
    sys.exit(main())
