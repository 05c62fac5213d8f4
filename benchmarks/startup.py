"""How long the import and the command line take, each in a process of its own."""

import resource
import statistics
import subprocess
import sys
import time
from typing import Any

from harness import TIMEOUT, Failed, Server, environment, pin

DEPENDENCIES = "import of aiohttp, anyio and msgspec"
COMMANDS = {
    DEPENDENCIES: ["-c", "import aiohttp, anyio, msgspec"],
    "`import itwin_async`": ["-c", "import itwin_async"],
    "`itwin-async --help`": ["-m", "itwin_async", "--help"],
    "`itwin-async itwins list` (one request)": [
        *("-m", "itwin_async", "itwins", "list", "--token-file", "-"),
    ],
}
MOST_TIMES_DEPENDENCIES = 1.25
MOST_SECONDS_OF_HELP = 0.4


def run_once(command: list[str], server: Server, core: int | None) -> dict[str, float]:
    """Run a command to its end; seconds of time and of CPU."""
    before, since = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run(
        [sys.executable, *command],
        input="t",
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=False,
        env=environment() | {"ITWIN_BASE_URL": server.base},
        preexec_fn=pin(core),
    )
    wall, after = time.perf_counter() - since, resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        raise Failed(done.stderr[-500:])
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"wall": wall, "cpu": cpu}


def measure(server: Server, core: int | None, *, full: bool) -> dict[str, Any]:
    """Run the commands in turn. The first round writes bytecode and does not count."""
    rounds = [
        {name: run_once(command, server, core) for name, command in COMMANDS.items()}
        for _ in range(21 if full else 11)
    ][1:]
    return {
        name: {
            "wall": statistics.median(r[name]["wall"] for r in rounds),
            "cpu": min(r[name]["cpu"] for r in rounds),
            "times": statistics.median(r[name]["wall"] / r[DEPENDENCIES]["wall"] for r in rounds),
        }
        for name in COMMANDS
    }


def rows(result: dict[str, Any]) -> list[list[str]]:
    """Give the lines of the table: scenario, ours, beside, target."""
    peer = result[DEPENDENCIES]
    lines = []
    for name, taken in result.items():
        if name == DEPENDENCIES:
            continue
        target = ""
        if "import" in name:
            reached = "✓" if taken["times"] <= MOST_TIMES_DEPENDENCIES else "✗"
            target = f"≤ {MOST_TIMES_DEPENDENCIES:g} times {reached}"
        elif "--help" in name:
            reached = "✓" if taken["wall"] <= MOST_SECONDS_OF_HELP else "✗"
            target = f"≤ {MOST_SECONDS_OF_HELP:g} s {reached}"
        lines.append(
            [
                name,
                f"{taken['wall'] * 1e3:.0f} ms (CPU {taken['cpu'] * 1e3:.0f})",
                (
                    f"**{taken['times']:.2f}** times its dependencies, {peer['wall'] * 1e3:.0f} ms "
                    f"(CPU {peer['cpu'] * 1e3:.0f})"
                ),
                target,
            ]
        )
    return lines
