"""An export on each Python that is installed: rows a second, CPU and memory."""

import json
import statistics
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).parent.parent / "scripts"))

import matrix
from dataset import SMALL, Dataset
from harness import HERE, TIMEOUT, WORK, Failed, Server, environment, pin, print_progress
from scenarios import PLAIN, Scenario

OTHERS = ("3.12", "3.13")
LISTS, ENTRIES, TOP = 20, 2_500, 100
DEPENDENCIES = ("aiohttp", "anyio", "msgspec")


def with_dependencies(version: str) -> Path | None:
    """Give a Python of another version with the dependencies, installed once; None without one."""
    home = WORK / f"python{version}"
    python, mark = home / "bin" / "python", home / ".ready"
    if mark.exists():
        return python
    found = matrix.interpreter(version)
    if found is None:
        return None
    constraints = HERE.parent / "constraints.txt"
    try:
        subprocess.run(
            [found, "-m", "venv", home], check=True, capture_output=True, timeout=TIMEOUT
        )
        subprocess.run(
            [python, "-m", "pip", "install", "--constraint", constraints, *DEPENDENCIES],
            check=True,
            capture_output=True,
            timeout=TIMEOUT,
        )
    except (subprocess.SubprocessError, OSError) as error:
        print_progress(f"Python {version} is left out: {type(error).__name__}")
        return None
    mark.touch()
    return python


def measure(server: Server, core: int | None, *, full: bool) -> dict[str, Any]:
    """Export the same lists with each Python, in turn."""
    data = Dataset(SMALL, ENTRIES)
    server.prepare(Scenario("export", "", data, (PLAIN,), lists=LISTS, top=TOP))
    spec = {
        "base": server.base,
        "lists": [replace(data, number=number).imodel_id for number in range(LISTS)],
        "top": TOP,
    }
    current = f"{sys.version_info.major}.{sys.version_info.minor}"
    pythons = {current: Path(sys.executable)}
    pythons |= {v: found for v in OTHERS if v != current and (found := with_dependencies(v))}
    outcomes: dict[str, list[dict[str, float]]] = {version: [] for version in pythons}
    for _ in range(5 if full else 2):
        for version, python in pythons.items():
            server.control("POST", "/_reset")
            done = subprocess.run(
                [python, HERE / "exporting.py", json.dumps(spec)],
                capture_output=True,
                text=True,
                timeout=TIMEOUT,
                check=False,
                env=environment(),
                preexec_fn=pin(core),
            )
            if done.returncode:
                raise Failed(f"Python {version}: {done.stderr[-500:]}")
            outcome = json.loads(done.stdout)
            requests = server.control("GET", "/_stats")["requests"]
            if (outcome["rows"], requests) != (LISTS * ENTRIES, LISTS * ENTRIES // TOP):
                raise Failed(f"Python {version}: {outcome['rows']} rows, {requests} requests")
            outcomes[version].append(outcome)
    return {
        version: {
            "wall": statistics.median(o["wall"] for o in found),
            "cpu": min(o["cpu"] for o in found),
            "memory": max(o["memory"] for o in found),
        }
        for version, found in outcomes.items()
    }


def rows(result: dict[str, Any]) -> list[list[str]]:
    """Give the lines of the table: scenario, ours, beside, target."""
    first = next(iter(result.values()))
    return [
        [
            f"export of {LISTS * ENTRIES:,} entries to JSON lines, Python {version}",
            (
                f"{LISTS * ENTRIES / taken['wall']:,.0f} rows/s (CPU {taken['cpu']:.2f} s, "
                f"peak {taken['memory'] / 1e6:.0f} MB)"
            ),
            f"**{first['cpu'] / taken['cpu']:.2f}** times as fast as the first, by CPU",
            "",
        ]
        for version, taken in result.items()
    ] + [
        [f"… Python {version}", "not installed", "", ""]
        for version in OTHERS
        if version not in result
    ]
