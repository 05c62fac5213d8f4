"""The demo: stream extended data from an emulated platform that throttles and fails.

Starts the emulator on a free port, lists extensions, and streams the extended data of forty iModels
at once into a msgspec struct, through a rate limit, a token that expires, a connection that is
reset and a page that is cut short. Ends with an error if an entry is missing or comes twice.
"""

import time
from collections import Counter
from collections.abc import AsyncIterator
from typing import Final

import msgspec
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from itwin_async import ExtendedData, IModel, ITwinSession, Pager, merged
from itwin_async.cli._running import run
from itwin_async.cli._screen import Screen
from itwin_async.emulator import Cut, Emulator, Reset

_IMODELS: Final = 40
_CHANGESETS: Final = 250  # of each
_PAGE: Final = 50
_ENTRIES: Final = _IMODELS * _CHANGESETS


class _Changes(msgspec.Struct, rename="camel"):
    """Which files a changeset changed, and in which task."""

    changed_files: list[str]
    task_id: str


class _Payload(msgspec.Struct):
    """What an extended-data entry holds."""

    data: _Changes


async def _imodels(itwin: ITwinSession) -> AsyncIterator[IModel]:
    """Every iModel of every iTwin."""
    async for item in itwin.itwins.list_itwins():
        async for imodel in itwin.imodels.list_imodels(item.id):
            yield imodel


async def _lists(itwin: ITwinSession) -> AsyncIterator[Pager[ExtendedData[_Payload]]]:
    """The lists of their extended data; none has sent a request yet."""
    async for imodel in _imodels(itwin):
        yield itwin.imodels.list_extended_data(imodel.id, _Payload, page_size=_PAGE)


def _inject_faults(emulator: Emulator, entries: int) -> None:
    """Throttle after a quarter of the entries, expire the tokens after half."""
    if entries == _ENTRIES // 4:
        emulator.throttle(2)
    if entries == _ENTRIES // 2:
        emulator.expire_tokens()


def main() -> int:
    """Run the demo; the exit code says whether every entry came exactly once."""
    return run(_demo)


async def _demo() -> int:
    console = Screen()
    seen: Counter[tuple[str, int]] = Counter()
    files: Counter[str] = Counter()
    since = time.perf_counter()
    async with (
        Emulator(imodels=_IMODELS, changesets=_CHANGESETS, per_minute=3_000) as emulator,
        ITwinSession(emulator.credentials, base_url=emulator.url) as itwin,
    ):
        emulator.faults.add("list_extended_data", Reset(), after=20)
        emulator.faults.add("list_extended_data", Cut(2_000), after=60)
        extensions = [extension async for extension in itwin.extensions.list_extensions()]
        console.print(f"{len(extensions)} extensions, such as {extensions[0]}")
        with Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=console,
            redirect_stdout=False,
            redirect_stderr=False,
            disable=not console.is_terminal,
        ) as progress:
            bar = progress.add_task("extended data", total=_ENTRIES)
            async with merged(_lists(itwin), workers=16) as entries:
                async for entry in entries:
                    seen[entry.imodel_id, entry.changeset_index] += 1
                    files.update(entry.data.data.changed_files)
                    _inject_faults(emulator, len(seen))
                    progress.advance(bar)
                    if not console.is_terminal and len(seen) % 2_500 == 0:
                        console.print(f"{len(seen):,} entries")
        stats = itwin.stats
        pages = emulator.count("list_extended_data")
    table = Table("", "count", title="What happened")
    table.add_row("entries", f"{sum(seen.values()):,}")
    table.add_row("changed files", f"{len(files):,}")
    table.add_row("pages requested", f"{pages:,}")
    table.add_row("requests", f"{stats.requests:,}")
    table.add_row("retries after a fault", f"{stats.retries:,}")
    table.add_row("throttled", f"{stats.throttled:,}")
    table.add_row("pauses", f"{stats.pauses:,}")
    table.add_row("token renewals", f"{stats.renewals:,}")
    table.add_row("seconds", f"{time.perf_counter() - since:.1f}")
    console.print(table)
    twice = sum(count > 1 for count in seen.values())
    missing = _ENTRIES - len(seen)
    if missing or twice or not stats.throttled or stats.renewals < 2:
        console.print(f"[red]{missing} entries are missing, {twice} came twice[/]")
        return 1
    console.print("Every entry came exactly once.")
    return 0
