"""The scenarios, the rows of the table and their targets, as data.

A scenario is one amount of work that several runners do in turn, round by round. A row of the
table compares one of our runners with the others by one metric. A row that misses its target is
printed as it is, with its reason.
"""

from dataclasses import dataclass, field
from typing import Literal

from dataset import LARGE, SMALL, Dataset

Metric = Literal["speed", "cpu", "first", "memory", "stall", "extra"]

SLOTS = 16  # the library's default bound of requests in flight


@dataclass(frozen=True, slots=True)
class Runner:
    """A client and how it is used."""

    label: str
    client: str
    ahead: int = 0
    as_struct: bool = False
    share: int = 1  # does only one part in so many of the single requests, being slow


RAW = Runner("raw", "raw")
JSON = Runner("json", "json")
PYDANTIC = Runner("pydantic", "pydantic")
TS = Runner("TS", "ts")
PEERS = (RAW, JSON, PYDANTIC, TS)

PLAIN = Runner("itwin", "itwin")
AHEAD_8 = Runner("itwin ahead(8)", "itwin", ahead=8)
AHEAD_16 = Runner("itwin ahead(16)", "itwin", ahead=16)
STRUCT = Runner("itwin Struct", "itwin", as_struct=True)


@dataclass(frozen=True, slots=True)
class Scenario:
    """Lists to walk, or single entries to get."""

    name: str
    title: str
    data: Dataset
    ours: tuple[Runner, ...]
    peers: tuple[Runner, ...] = PEERS
    lists: int = 1
    top: int = 100
    bound: int = SLOTS
    requests: int = 0
    short: int = 3  # rounds of the short set; 0 leaves the scenario to the full one
    full: int = 5
    stall: tuple[Runner, ...] = ()  # who runs once more, with a heartbeat beside the work

    @property
    def pages(self) -> int:
        """How many requests the work needs."""
        return self.requests or self.lists * -(-self.data.total // self.top)


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table. Speed should be at least, all else at most, its target."""

    scenario: str
    runner: Runner
    metric: Metric
    title: str
    targets: dict[str, float] = field(default_factory=dict)  # by the label of the peer
    at_most: float | None = None  # of our own figure: bytes, seconds or requests
    reasons: dict[str, str] = field(default_factory=dict)  # why it falls short, by peer
    full_only: bool = False


def _single(at_once: int, requests: int) -> Scenario:
    # httpx takes longer per request the more are waiting: fewer requests say as much.
    return Scenario(
        f"single-{at_once}",
        f"single small GET, {at_once} at once",
        Dataset(SMALL, requests),
        (PLAIN,),
        (RAW, JSON, Runner("pydantic", "pydantic", share=4), TS),
        bound=at_once,
        requests=requests,
        short=1,
    )


SCENARIOS = (
    Scenario(
        "small",
        "1,000 pages x 100 small, 0 ms",
        Dataset(SMALL, 100_000),
        (AHEAD_8, PLAIN),
        full=7,
    ),
    Scenario(
        "small-20ms",
        "200 pages x 100 small, 20 ms",
        Dataset(SMALL, 20_000, 20),
        (AHEAD_8, AHEAD_16),
        bound=32,  # ahead(16) needs a slot for each page
        short=1,  # a wait does not vary
    ),
    Scenario(
        "small-50ms",
        "200 pages x 100 small, 50 ms",
        Dataset(SMALL, 20_000, 50),
        (AHEAD_8, AHEAD_16),
        bound=32,
        short=0,
        full=3,
    ),
    Scenario(
        "medium",
        "100 pages x 100 x 10 KB, 0 ms",
        Dataset(10_240, 10_000),
        (PLAIN,),
        short=2,
    ),
    Scenario(
        "medium-20ms",
        "100 pages x 100 x 10 KB, 20 ms",
        Dataset(10_240, 10_000, 20),
        (AHEAD_8,),
        short=1,
    ),
    Scenario(
        "large",
        "10 pages x 100 x 204,800 B",
        Dataset(LARGE, 1000),
        (PLAIN, STRUCT),
        short=2,
        stall=(RAW, PLAIN, STRUCT),
    ),
    Scenario(
        "large-names",
        "10 pages x 100 x 204,800 B, file names and no records",
        Dataset(LARGE, 1000, names_only=True),
        (PLAIN, STRUCT),
        short=0,
    ),
    Scenario(
        "lists",
        "200 lists x 5 pages at once, 20 ms",
        Dataset(SMALL, 500, 20),
        (AHEAD_8,),
        lists=200,
        bound=500,
        short=3,
    ),
    Scenario(
        "lists-16",
        "200 lists x 5 pages at once, 20 ms, 16 slots",
        Dataset(SMALL, 500, 20),
        (AHEAD_8,),
        (RAW,),  # 50 pages a second and slot: all clients that keep up are equal
        lists=200,
        short=2,
    ),
    Scenario(
        "large-lists",
        "8 lists x 2 pages of 27 MB at once",
        Dataset(LARGE, 200),
        (PLAIN,),
        (RAW,),
        lists=8,
        short=2,
    ),
    _single(1, 2000),
    _single(50, 4000),
    _single(500, 4000),
)

ROWS = (
    Row(
        "small",
        AHEAD_8,
        "speed",
        "1,000 pages x 100 small, 0 ms, `ahead(8)`",
        {"raw": 1.1, "json": 2.5, "pydantic": 5, "TS": 4},
    ),
    Row(
        "small",
        PLAIN,
        "speed",
        "the same without read-ahead",
        {"json": 2, "pydantic": 4, "TS": 3},
    ),
    Row("small", PLAIN, "cpu", "… CPU time", {"raw": 1.12}),
    Row(
        "small-20ms",
        AHEAD_8,
        "speed",
        "200 pages x 100 small, 20 ms, `ahead(8)`",
        {"raw": 7, "json": 7, "pydantic": 8, "TS": 7},
    ),
    Row(
        "small-20ms",
        AHEAD_16,
        "speed",
        "the same, `ahead(16)`",
        {"raw": 12, "json": 12, "pydantic": 13, "TS": 12},
    ),
    Row(
        "small-50ms",
        AHEAD_8,
        "speed",
        "200 pages x 100 small, 50 ms, `ahead(8)`",
        {"raw": 7, "json": 7, "pydantic": 8, "TS": 7},
        full_only=True,
    ),
    Row(
        "small-50ms",
        AHEAD_16,
        "speed",
        "the same, `ahead(16)`",
        {"raw": 12, "json": 12, "pydantic": 13, "TS": 12},
        full_only=True,
    ),
    Row(
        "medium",
        PLAIN,
        "speed",
        "100 pages x 100 x 10 KB, 0 ms",
        {"raw": 1.0, "json": 2.7, "pydantic": 3, "TS": 2.5},
    ),
    Row("medium", PLAIN, "cpu", "… CPU time", {"raw": 1.05}),
    Row(
        "medium-20ms",
        AHEAD_8,
        "speed",
        "the same at 20 ms, `ahead(8)`",
        {"raw": 4, "json": 5, "pydantic": 6, "TS": 4.5},
    ),
    Row(
        "large",
        PLAIN,
        "speed",
        "10 pages x 100 x 204,800 B, payload as dict",
        {"raw": 1.2, "json": 2.5, "pydantic": 3, "TS": 2},
    ),
    Row("large", PLAIN, "cpu", "… CPU time", {"raw": 0.85}),
    Row(
        "large",
        STRUCT,
        "speed",
        "the same, payload as a Struct",
        {"raw": 1.7, "json": 3.5, "pydantic": 4.5, "TS": 3.3},
    ),
    Row("large", PLAIN, "first", "… time to the first item", {"raw": 1 / 15}),
    Row("large", PLAIN, "memory", "… peak memory over a bare import", at_most=10e6),
    Row("large", PLAIN, "stall", "… longest loop stall, as dict", {"raw": 1 / 10}),
    Row("large", STRUCT, "stall", "… longest loop stall, as a Struct", {"raw": 0.03}),
    Row(
        "large-names",
        PLAIN,
        "speed",
        "the same pages of file names alone, as dict",
        full_only=True,
    ),
    Row("large-names", STRUCT, "speed", "… as a Struct", full_only=True),
    Row(
        "lists",
        AHEAD_8,
        "speed",
        "200 lists x 5 pages at once, 20 ms, `ahead(8)`, `Limiter(500)`",
        {"raw": 0.95, "json": 2, "pydantic": 20, "TS": 4},
        reasons={
            "pydantic": "httpx runs with its default pool, its fastest; one as large as the bound "
            "makes it two to five times as slow",
        },
    ),
    Row("lists", AHEAD_8, "cpu", "… CPU time", {"raw": 1.12}),
    Row("lists", AHEAD_8, "extra", "… requests wasted", at_most=0),
    Row("lists-16", AHEAD_8, "speed", "the same with 16 slots for all", {"raw": 0.95}),
    Row("lists-16", AHEAD_8, "extra", "… requests wasted", at_most=0),
    Row(
        "large-lists",
        PLAIN,
        "speed",
        "8 lists of 27 MB pages at once",
        {"raw": 1.0},
    ),
    Row("large-lists", PLAIN, "cpu", "… CPU time"),
    Row("large-lists", PLAIN, "memory", "… peak memory over a bare import", {"raw": 1 / 10}),
    Row(
        "single-1",
        PLAIN,
        "speed",
        "single small GET, one after the other",
        {"raw": 0.9, "pydantic": 3},
    ),
    Row("single-50", PLAIN, "speed", "… 50 at once", {"raw": 0.9, "pydantic": 18}),
    Row("single-500", PLAIN, "speed", "… 500 at once", {"raw": 0.9, "pydantic": 13}),
)


@dataclass(frozen=True, slots=True)
class Growth:
    """The same work in growing amounts: what a unit of it costs each time."""

    title: str
    axis: str
    unit: str
    steps: tuple[tuple[int, Scenario], ...]


def _grown(name: str, data: Dataset, *, lists: int = 1) -> Scenario:
    return Scenario(name, name, data, (PLAIN,), (RAW,), lists=lists, bound=200, short=0)


GROWTH = (
    Growth(
        "pages of one list",
        "pages",
        "page",
        tuple((n, _grown(f"pages-{n}", Dataset(SMALL, 100 * n))) for n in (1, 10, 100, 1000)),
    ),
    Growth(
        "lists at once, 2 pages each",
        "lists",
        "page",
        tuple(
            (n, _grown(f"lists-at-once-{n}", Dataset(SMALL, 200), lists=n))
            for n in (1, 10, 100, 1000)
        ),
    ),
    Growth(
        "bytes of a payload",
        "bytes",
        "entry",
        tuple(
            (size, _grown(f"payload-{size}", Dataset(size, total)))
            for size, total in ((200, 10_000), (2_000, 10_000), (20_000, 2_000), (LARGE, 500))
        ),
    ),
)
