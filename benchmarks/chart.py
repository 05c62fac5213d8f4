"""The chart of the results: how many times as fast the library is, and what growth costs.

    python benchmarks/chart.py

writes README.md and results.svg again from the last run's `.work/results.json`.
"""

import json
import statistics
from pathlib import Path

from report import Results, ours, ratios, unit_costs, write
from scenarios import GROWTH, ROWS, SCENARIOS, Row

NAMES = {
    "raw": "aiohttp + msgspec by hand (raw)",
    "json": "aiohttp + json by hand",
    "pydantic": "httpx + pydantic",
    "TS": "Bentley's TypeScript client",
}
COLOURS = {"raw": "#4c72b0", "json": "#dd8452", "pydantic": "#55a868", "TS": "#8172b3"}


def chart(results: Results, path: Path) -> None:
    """Draw how many times as fast the library is, and what growth costs, if measured."""
    import matplotlib as mpl  # noqa: PLC0415 -- only those who write need it

    mpl.use("svg")
    from matplotlib import pyplot as plt  # noqa: PLC0415

    plt.rcParams |= {
        "svg.hashsalt": "itwin-async",  # the same results give the same file
        "svg.fonttype": "none",
        "font.size": 9,
        "axes.spines.top": False,
        "axes.spines.right": False,
    }
    rows = [row for row in ROWS if row.metric == "speed" and ours(results, row)]
    series = [s for s in GROWTH if any(unit_costs(results, sc.name, s.unit) for _, sc in s.steps)]
    height = 0.62 * len(rows) + 1.2
    figure = plt.figure(figsize=(9, height + (2.8 if series else 0)), layout="constrained")
    parts = figure.subfigures(2, 1, height_ratios=[height, 2.8]) if series else [figure]
    axes = parts[0].subplots()
    for number, peer in enumerate(NAMES):
        for place, row in enumerate(rows):
            values = ratios(results, row, peer)
            if not values:
                continue
            y, middle = place + (number - 1.5) * 0.2, statistics.median(values)
            label = NAMES[peer] if place == 0 else None
            # Bars begin at 1, which is as fast; the spread is drawn over the end.
            axes.barh(y, middle - 1, 0.19, left=1, color=COLOURS[peer], label=label)
            axes.plot([min(values), max(values)], [y, y], color="#333333", linewidth=1)
            if peer in row.targets:
                target = row.targets[peer]
                axes.plot([target, target], [y - 0.095, y + 0.095], color="black", linewidth=2)
    axes.axvline(1, color="black", linewidth=0.8)
    axes.set_xscale("log")
    axes.set_yticks(range(len(rows)), [titles(rows)[i] for i in range(len(rows))])
    axes.invert_yaxis()
    axes.set_xlabel("times as fast as …  (log scale; black tick: target; line: spread of rounds)")
    ticks = [0.5, 1, 2, 5, 10, 20, 50]
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.minorticks_off()
    parts[0].legend(loc="outside upper center", ncols=4, frameon=False)
    if series:
        for axis, one in zip(
            parts[1].subplots(1, len(series), squeeze=False)[0], series, strict=True
        ):
            steps = [(n, unit_costs(results, sc.name, one.unit)) for n, sc in one.steps]
            known = [(n, costs) for n, costs in steps if costs]
            for which, name, colour in ((0, "itwin-async", "black"), (1, "raw", COLOURS["raw"])):
                points = [costs[which][1] for _, costs in known]
                axis.plot([n for n, _ in known], points, "o-", color=colour, label=name, ms=3)
            axis.set(xscale="log", xlabel=one.title, ylabel=f"CPU µs per {one.unit}")
            if one.unit == "entry":  # entries grow, so their cost must; a page's should not
                axis.set_yscale("log")
            else:
                axis.set_ylim(bottom=0)
            axis.legend(frameon=False)
    figure.savefig(path, metadata={"Date": None, "Creator": None})
    plt.close(figure)


def titles(rows: list[Row]) -> list[str]:
    """Name rows without leaning on the row before."""
    named = {s.name: s.title for s in SCENARIOS}
    ways = {"itwin": "", "itwin Struct": ", as Struct"}
    return [
        named[row.scenario] + ways.get(row.runner.label, row.runner.label.replace("itwin", ","))
        for row in rows
    ]


if __name__ == "__main__":
    folder = Path(__file__).parent
    write(json.loads((folder / ".work" / "results.json").read_text()), folder, chart)
