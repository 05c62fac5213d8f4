"""What read-ahead costs and gains on short lists: requests in vain, and times as fast."""

import statistics
from typing import Any

from dataset import SMALL, Dataset
from harness import Server, run_client
from scenarios import AHEAD_8, AHEAD_16, PLAIN, RAW, Scenario

PAGES = (1, 2, 3, 5, 10, 20)
MORE_PAGES = (50, 100)  # of the full set
RUNNERS = (RAW, PLAIN, AHEAD_8, AHEAD_16)


def measure(server: Server, core: int | None, *, full: bool) -> dict[str, Any]:
    """Walk one list of each length, 20 ms a page, with and without read-ahead."""
    result: dict[str, Any] = {}
    for pages in (*PAGES, *(MORE_PAGES if full else ())):
        scenario = Scenario(
            "prefetch", "", Dataset(SMALL, 100 * pages, 20), RUNNERS[1:], (RAW,), bound=32
        )
        server.prepare(scenario)
        rounds = [
            {r.label: run_client(r, scenario, server, core, stall=False) for r in RUNNERS}
            for _ in range(3 if full else 1)
        ]
        result[str(pages)] = {
            runner.label: {
                "wall": statistics.median(r[runner.label]["wall"] for r in rounds),
                "extra": max(r[runner.label]["extra"] for r in rounds),
            }
            for runner in RUNNERS
        }
    return result


def table(result: dict[str, Any]) -> list[str]:
    """Give the table: a line for each length of a list."""
    lines = [
        (
            "| pages of the list | without | `ahead(8)` wastes | … times as fast as raw "
            "| `ahead(16)` wastes | … times as fast as raw |"
        ),
        "| ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for pages, by_runner in result.items():
        raw = by_runner[RAW.label]["wall"]
        cells = [pages, f"{by_runner[PLAIN.label]['extra']}"]
        for runner in (AHEAD_8, AHEAD_16):
            outcome = by_runner[runner.label]
            cells += [f"{outcome['extra']}", f"{raw / outcome['wall']:.2f}"]
        lines.append(f"| {' | '.join(cells)} |")
    return lines
