"""The results as tables and as a section of README.md."""

import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import merging
import prefetching
import pythons
import startup
import syncing
from scenarios import GROWTH, PEERS, ROWS, SCENARIOS, Metric, Row

Results = dict[str, Any]

BEGIN, END = "<!-- results: begin -->", "<!-- results: end -->"
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
    """Give our own figures, one for each round; of CPU time the smallest alone."""
    rounds = rounds_of(results, row)
    label = row.runner.label
    values = [r[label][FIELD[row.metric]] for r in rounds if label in r]
    return [min(values)] if row.metric == "cpu" and values else values


def ratios(results: Results, row: Row, peer: str) -> list[float]:
    """Compare with one peer within each round: times as fast, or the fraction of theirs.

    CPU time is compared by the smallest of all rounds, which other processes disturb least.
    """
    name, label = FIELD[row.metric], row.runner.label
    pairs = [
        (r[label][name], r[peer][name]) for r in rounds_of(results, row) if label in r and peer in r
    ]
    if row.metric == "speed":
        return [theirs / mine for mine, theirs in pairs]
    if row.metric == "cpu" and pairs:
        return [min(mine for mine, _ in pairs) / min(theirs for _, theirs in pairs)]
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
    return f"≤ {target:g}" if target >= 0.5 or 1 / target > 20 else f"≤ 1/{1 / target:g}"


def reached(row: Row, value: float, target: float) -> bool:
    """Whether a figure reaches its target."""
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
    if row.metric == "speed":
        label = row.runner.label
        cpu = min(r[label]["cpu"] for r in rounds_of(results, row) if label in r)
        text += f" (CPU {SHOWN['cpu'](cpu)})"
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
    """Every client's own figures, scenario by scenario: medians, and the smallest CPU time."""
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
                middle = min if metric == "cpu" else statistics.median
                cells.append(SHOWN[metric](middle(values)) if values else "")
            lines.append(f"| {' | '.join(cells)} |")
            title = ""
    return lines


def more_rows(results: Results) -> list[str]:
    """What no scenario can show: `merged`, start, an export, the second sync."""
    lines = ["| what | itwin-async | beside | target |", "| --- | --- | --- | --- |"]
    return lines + [f"| {' | '.join(cells)} |" for cells in more_cells(results)]


def more_cells(results: Results) -> list[list[str]]:
    """The cells of these rows: what, ours, beside, target with whether it was reached."""
    subjects = (("merged", merging), ("startup", startup), ("export", pythons), ("sync", syncing))
    return [cells for name, module in subjects if name in results
            for cells in module.rows(results[name])]  # fmt: skip


def prefetched(results: Results) -> list[str]:
    """What read-ahead wastes and gains on short lists."""
    return prefetching.table(results["prefetch"]) if "prefetch" in results else []


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
    marked = [cells for cells in more_cells(results) if cells[-1].endswith(("✓", "✗"))]
    more_missed = [cells for cells in marked if cells[-1].endswith("✗")]
    count, reached = len(found) + len(marked), len(found) - len(missed)
    reached += len(marked) - len(more_missed)
    lines = [f"{reached} of {count} measured targets reached."]
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
    lines += [
        f"- {what}: {ours} instead of {target[:-2]}." for what, ours, _, target in more_missed
    ]
    return lines


def text(results: Results) -> str:
    """Give all of it, as Markdown that reads well in a terminal."""
    lines = facts(results)
    for title, rows in (
        ("Against the targets:", table(results)),
        ("What a unit costs as the work grows (0 ms, no read-ahead):", growth(results)),
        ("Beside the scenarios:", more_rows(results)),
        ("Requests past the end of a list, 20 ms a page:", prefetched(results)),
        ("What each client took (medians; of CPU time the smallest):", figures(results)),
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


def write(results: Results, here: Path, draw: Callable[[Results, Path], None]) -> None:
    """Put the results into README.md, between the two marks, and draw the chart beside it."""
    readme = here / "README.md"
    before, rest = readme.read_text().split(BEGIN)
    _, after = rest.split(END)
    draw(results, here / "results.svg")
    section = f"\n\n![Times as fast as each peer](results.svg)\n\n{text(results)}\n\n"
    readme.write_text(before + BEGIN + section + END + after)
