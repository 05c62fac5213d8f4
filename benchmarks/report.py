"""The results as a table, a chart, and a section of README.md.

    python benchmarks/report.py

writes README.md and results.svg anew from the last run's `.work/results.json`.
"""

import json
import statistics
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from scenarios import GROWTH, PEERS, ROWS, SCENARIOS, Metric, Row

Results = dict[str, Any]

BEGIN, END = "<!-- results: begin -->", "<!-- results: end -->"
NAMES = {
    "raw": "aiohttp + msgspec by hand (raw)",
    "json": "aiohttp + json by hand",
    "pydantic": "httpx + pydantic",
    "TS": "Bentley's TypeScript client",
}
COLOURS = {"raw": "#4c72b0", "json": "#dd8452", "pydantic": "#55a868", "TS": "#8172b3"}

# A metric's figure in one outcome. For speed ours divides theirs, for all else theirs ours.
FIELD: dict[Metric, str] = {
    "speed": "wall",
    "cpu": "cpu",
    "first": "first",
    "memory": "memory",
    "stall": "stall",
    "extra": "extra",
}
SHOWN: dict[Metric, Callable[[float], str]] = {
    "speed": lambda value: f"{value:.2f} s" if value >= 1 else f"{value * 1e3:.0f} ms",
    "cpu": lambda value: f"{value:.2f} s" if value >= 1 else f"{value * 1e3:.0f} ms",
    "first": lambda value: f"{value * 1e3:.1f} ms",
    "memory": lambda value: f"+{value / 1e6:.1f} MB",
    "stall": lambda value: f"{value * 1e3:.1f} ms",
    "extra": lambda value: f"{value:.0f}",
}


def rounds_of(results: Results, row: Row) -> list[dict[str, Any]]:
    """Give the rounds that a row speaks of."""
    measured = results["scenarios"].get(row.scenario)
    if measured is None:
        return []
    return measured["stall" if row.metric == "stall" else "rounds"]


def ours(results: Results, row: Row) -> list[float]:
    """Give our own figures, one for each round."""
    rounds = rounds_of(results, row)
    label = row.runner.label
    return [r[label][FIELD[row.metric]] for r in rounds if label in r]


def ratios(results: Results, row: Row, peer: str) -> list[float]:
    """Compare with one peer, within each round: times as fast, or the part of theirs."""
    name, label = FIELD[row.metric], row.runner.label
    pairs = [
        (r[label][name], r[peer][name]) for r in rounds_of(results, row) if label in r and peer in r
    ]
    if row.metric == "speed":
        return [theirs / mine for mine, theirs in pairs]
    # A memory that did not grow at all would be no divisor.
    return [mine / max(theirs, 1e-9) for mine, theirs in pairs]


def ratio(value: float) -> str:
    """Print a ratio with the digits that mean something."""
    if value >= 9.95:
        return f"{value:.1f}"
    return f"{value:.2f}" if value >= 0.095 else f"{value:.3f}"


def goal(row: Row, target: float) -> str:
    """Print a target."""
    if row.metric == "speed":
        return f"≥ {target:g}"
    return f"≤ {target:g}" if target >= 0.5 else f"≤ 1/{1 / target:g}"


def reached(row: Row, value: float, target: float) -> bool:
    """Tell whether a figure is as good as it should be."""
    return value >= target if row.metric == "speed" else value <= target


def verdicts(results: Results) -> list[tuple[Row, str, float, float, bool]]:
    """Give every target that was measured: row, peer, figure, target, reached."""
    found = []
    for row in ROWS:
        for peer, target in row.targets.items():
            if values := ratios(results, row, peer):
                value = statistics.median(values)
                found.append((row, peer, value, target, reached(row, value, target)))
        if row.at_most is not None and (mine := ours(results, row)):
            value = statistics.median(mine)
            found.append((row, "itself", value, row.at_most, value <= row.at_most))
    return found


def cell(results: Results, row: Row, peer: str) -> str:
    """Give one cell of the table: median (smallest-largest) target."""
    values = ratios(results, row, peer)
    target = row.targets.get(peer)
    if not values or row.metric == "extra":
        return "not measured" if target else ""
    middle = statistics.median(values)
    text = f"**{ratio(middle)}**"
    if len(values) > 1:
        text += f" ({ratio(min(values))} to {ratio(max(values))})"
    if target is not None:
        text += f" {goal(row, target)} {'✓' if reached(row, middle, target) else '✗'}"
    return text


def own_cell(results: Results, row: Row) -> str:
    """Give the library's own figure, with its target where it has one."""
    values = ours(results, row)
    if not values:
        return "not measured"
    middle = statistics.median(values)
    shown = SHOWN[row.metric]
    text = shown(middle)
    requests = {s.name: s.requests for s in SCENARIOS}[row.scenario]
    if requests:
        text = f"{requests / middle:,.0f} requests/s"
    if row.at_most is not None:
        text += f" ≤ {shown(row.at_most)} {'✓' if middle <= row.at_most else '✗'}"
    return text


def table(results: Results) -> list[str]:
    """Every row of the table, measured or not; only the full set's are left to the full set."""
    part = "--only" in results["command"]
    peers = [peer.label for peer in PEERS]
    lines = [
        f"| scenario | itwin-async | {' | '.join(f'vs {peer}' for peer in peers)} |",
        f"| --- | --- | {' | '.join('---' for _ in peers)} |",
    ]
    for row in ROWS:
        if not rounds_of(results, row) and (row.full_only or part):
            continue
        cells = [row.title, own_cell(results, row), *(cell(results, row, p) for p in peers)]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def figures(results: Results) -> list[str]:
    """Every client's own figures, scenario by scenario: medians."""
    lines = [
        "| scenario | client | time | CPU | first item | peak memory | stall | wasted |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for scenario in SCENARIOS:
        measured = results["scenarios"].get(scenario.name, {"rounds": [], "stall": []})
        title = scenario.title
        for runner in (*scenario.peers, *scenario.ours):
            done = [r[runner.label] for r in measured["rounds"] if runner.label in r]
            stalls = [r[runner.label] for r in measured["stall"] if runner.label in r]
            if not done:
                continue
            cells = [title, runner.label]
            metrics: tuple[Metric, ...] = ("speed", "cpu", "first", "memory", "stall", "extra")
            for metric in metrics:
                values = [o[FIELD[metric]] for o in (stalls if metric == "stall" else done)]
                cells.append(SHOWN[metric](statistics.median(values)) if values else "")
            lines.append(f"| {' | '.join(cells)} |")
            title = ""
    return lines


def growth(results: Results) -> list[str]:
    """What a page or an entry costs as there are more of them, or as they grow."""
    lines: list[str] = []
    for series in GROWTH:
        rows = []
        for step, scenario in series.steps:
            costs = unit_costs(results, scenario.name, series.unit)
            if not costs:
                continue
            (wall, cpu, memory), (raw_wall, raw_cpu, raw_memory) = costs
            rows.append(
                f"| {step:,} | {wall:.1f} | {raw_wall:.1f} | {cpu:.1f} | {raw_cpu:.1f} "
                f"| +{memory / 1e6:.1f} | +{raw_memory / 1e6:.1f} |"
            )
        if rows:
            lines += [
                *([""] if lines else []),
                f"| {series.title} | µs per {series.unit} | raw | CPU µs | raw | peak MB | raw |",
                "| ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
                *rows,
            ]
    return lines


def unit_costs(
    results: Results, name: str, unit: str
) -> tuple[tuple[float, float, float], tuple[float, float, float]] | None:
    """Median wall and CPU time of a unit in microseconds and peak bytes: ours, then raw's."""
    measured = results["scenarios"].get(name)
    scenarios = {s.name: s for series in GROWTH for _, s in series.steps}
    scenario = scenarios[name]
    entries = scenario.data.total * scenario.lists
    units = entries if unit == "entry" else scenario.pages

    def costs(label: str) -> tuple[float, float, float] | None:
        outcomes = [r[label] for r in measured["rounds"] if label in r]
        if not outcomes:
            return None
        wall, cpu, memory = (
            statistics.median(o[key] for o in outcomes) for key in ("wall", "cpu", "memory")
        )
        return wall / units * 1e6, cpu / units * 1e6, memory

    if measured is None:
        return None
    mine, theirs = costs("itwin"), costs("raw")
    return (mine, theirs) if mine and theirs else None


def facts(results: Results) -> list[str]:
    """Say where, when and with what."""
    machine = ", ".join(
        f"{name} {value}" if name in ("cores", "memory") else value
        for name, value in results["machine"].items()
    )
    pinned = (
        "clients on one core, the server on another"
        if results["pinned"]
        else "not pinned: this system cannot, or has one core"
    )
    versions = ", ".join(f"{name} {value}" for name, value in results["versions"].items())
    lines = [
        f"- Command: `{results['command']}` ({results['seconds']} s)",
        f"- Date: {results['date']}; load of the machine before: {results['load']}",
        f"- Machine: {machine}; {pinned}",
        f"- Versions: {versions}",
    ]
    lines += [f"- **Left out: {name}** ({why})" for name, why in results["left_out"].items()]
    lines += [f"- **Failed:** {failure}" for failure in results["failures"]]
    return lines


def summary(results: Results) -> list[str]:
    """Count the targets, and name those that were missed with what is known about it."""
    found = verdicts(results)
    missed = [verdict for verdict in found if not verdict[4]]
    lines = [f"{len(found) - len(missed)} of {len(found)} measured targets reached."]
    for row, peer, value, target, _ in missed:
        if peer == "itself":
            shown = SHOWN[row.metric]
            figures = f"{shown(value)} instead of ≤ {shown(target)}"
        else:
            word = "times as fast as" if row.metric == "speed" else "of"
            figures = f"{value:.3f} {word} {peer} instead of {goal(row, target)}"
        reason = f": {row.reasons[peer]}" if peer in row.reasons else ""
        where = {s.name: s.title for s in SCENARIOS}[row.scenario]
        lines.append(f"- {where}, {row.runner.label}, {row.metric}: {figures}{reason}.")
    return lines


def text(results: Results) -> str:
    """Give all of it, as Markdown that reads well in a terminal."""
    lines = facts(results)
    for title, rows in (
        ("Against the targets:", table(results)),
        ("What a unit costs as the work grows (0 ms, no read-ahead):", growth(results)),
        ("What each client took (medians):", figures(results)),
    ):
        if len(rows) > 2:  # a head alone says nothing
            lines += ["", title, "", *aligned(rows)]
    return "\n".join([*lines, "", *summary(results)])


def aligned(lines: list[str]) -> list[str]:
    """Pad the columns of Markdown tables."""
    shaped: list[str] = []
    block: list[list[str]] = []
    for line in [*lines, ""]:
        if line.startswith("|"):
            block.append([part.strip() for part in line.strip("|").split("|")])
            continue
        if block:
            widths = [max(map(len, column)) for column in zip(*block, strict=True)]
            for number, cells in enumerate(block):
                fill = "-" if number == 1 else " "
                padded = [c.ljust(w, fill) for c, w in zip(cells, widths, strict=True)]
                if number == 1:  # a colon, if any, stays at the end
                    padded = [
                        "-" * (w - 1) + ":" if ":" in c else p
                        for c, p, w in zip(cells, padded, widths, strict=True)
                    ]
                shaped.append(f"| {' | '.join(padded)} |")
            block = []
        shaped.append(line)
    return shaped[:-1]


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


def write(results: Results, here: Path) -> None:
    """Put the results into README.md, between the two marks, and draw the chart beside it."""
    readme = here / "README.md"
    before, rest = readme.read_text().split(BEGIN)
    _, after = rest.split(END)
    chart(results, here / "results.svg")
    section = f"\n\n![Times as fast as each peer](results.svg)\n\n{text(results)}\n\n"
    readme.write_text(before + BEGIN + section + END + after)


if __name__ == "__main__":
    folder = Path(__file__).parent
    last = json.loads((folder / ".work" / "results.json").read_text())
    write(last, folder)
    sys.exit(0)
