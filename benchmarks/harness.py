"""The processes of a run: the server, each client, and the cores they are pinned to."""

import json
import os
import platform
import shutil
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from dataset import WARM_UP
from scenarios import Runner, Scenario

HERE = Path(__file__).parent
WORK = HERE / ".work"  # git-ignored: node's packages, other Pythons and the last results
TS_PACKAGE = "@itwin/imodels-client-management"
TS_VERSION = "6.2.2"
TIMEOUT = 180  # seconds that one run may take


class Failed(Exception):  # noqa: N818
    """A run whose figures cannot be used."""


def cores() -> tuple[int, int] | None:
    """Choose a core for the clients and one for the server, if there are two."""
    if not hasattr(os, "sched_setaffinity"):
        return None
    available = sorted(os.sched_getaffinity(0))
    return (available[0], available[-1]) if len(available) > 1 else None


def pin(core: int | None) -> Callable[[], None] | None:
    """Make the function that moves a child process to its core."""
    return None if core is None else lambda: os.sched_setaffinity(0, {core})


def environment() -> dict[str, str]:
    """Make the environment of the clients: no proxy, this library, cached bytecode."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if "proxy" not in name.lower() and name != "PYTHONDONTWRITEBYTECODE"
    }
    return {**kept, "PYTHONPATH": str(HERE.parent), "NODE_ENV": "production"}


class Server:
    """The server's process, as the harness sees it."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        self.base = f"http://127.0.0.1:{int(process.stdout.readline())}"
        self._open = urllib.request.build_opener(urllib.request.ProxyHandler({})).open

    def control(self, method: str, path: str) -> dict[str, Any]:
        request = urllib.request.Request(self.base + path, method=method)
        with self._open(request, timeout=TIMEOUT) as response:
            return json.load(response)

    def prepare(self, scenario: Scenario) -> dict[str, int]:
        """Make the server build all responses of a scenario."""
        what = "single=1" if scenario.requests else f"lists={scenario.lists}&top={scenario.top}"
        return self.control("POST", f"/_prepare?imodel={scenario.data.imodel_id}&{what}")


@contextmanager
def serving(core: int | None) -> Iterator[Server]:
    """Run the server inside the block."""
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
    """Give the command that runs a client, without its last argument."""
    if client == "ts":
        return ["node", HERE / "ts_client.mjs", WORK]
    return [sys.executable, HERE / "clients.py", client]


def install_ts() -> None:
    """Install the TypeScript client once; raises `Failed` if that is not possible."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        raise Failed("node or npm is not installed")
    manifest = WORK / "node_modules" / TS_PACKAGE / "package.json"
    if manifest.exists() and json.loads(manifest.read_text())["version"] == TS_VERSION:
        return
    WORK.mkdir(exist_ok=True)
    wanted = {"private": True, "dependencies": {TS_PACKAGE: TS_VERSION}}
    (WORK / "package.json").write_text(json.dumps(wanted))
    npm = ["npm", "install", "--no-package-lock", "--no-audit", "--no-fund", "--ignore-scripts"]
    try:
        subprocess.run(npm, cwd=WORK, check=True, capture_output=True, timeout=TIMEOUT)
    except (subprocess.SubprocessError, OSError) as error:
        raise Failed(f"npm could not install {TS_PACKAGE}: {type(error).__name__}") from None


def probe(client: str) -> dict[str, str]:
    """Ask a client for its versions; raises `Failed` if it does not run."""
    if client == "ts":
        install_ts()
    done = subprocess.run(
        [*command(client), "versions"],
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=False,
        env=environment(),
    )
    if done.returncode:
        raise Failed((done.stderr.strip().splitlines() or ["it does not start"])[-1])
    return json.loads(done.stdout)


def run_client(
    runner: Runner, scenario: Scenario, server: Server, core: int | None, *, stall: bool
) -> dict[str, Any]:
    """Run one client once, and compare what it counted with what the server holds."""
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
    server.control("POST", "/_reset")
    try:
        done = subprocess.run(
            [*command(runner.client), json.dumps(spec)],
            capture_output=True,
            text=True,
            timeout=TIMEOUT,
            check=True,
            env=environment(),
            preexec_fn=pin(core),
        )
    except subprocess.CalledProcessError as error:
        raise Failed(error.stderr[-2000:]) from None
    except subprocess.TimeoutExpired:
        raise Failed(f"took more than {TIMEOUT} s") from None
    outcome = json.loads(done.stdout)
    stats = server.control("GET", "/_stats")
    data = single if requests else scenario.data
    for name, expected in (
        ("entries", data.total * scenario.lists),
        ("items", data.items() * scenario.lists),
        ("indexes", data.total * (data.total + 1) // 2 * scenario.lists),
    ):
        if outcome[name] != expected:
            raise Failed(f"{name}: {outcome[name]} instead of {expected}")
    # The warm-up of single requests sends as many as may be in flight.
    needed = requests + scenario.bound if requests else scenario.pages
    outcome["extra"] = stats["requests"] - needed
    outcome["past_the_end"] = stats["past_the_end"]
    outcome["max_in_flight"] = stats["max_in_flight"]
    # Single requests are compared by their rate, for slow clients send fewer.
    outcome["wall"] *= runner.share
    outcome["cpu"] *= runner.share
    return outcome


def machine() -> dict[str, str]:
    """Describe the machine by its size, not its name."""
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


def print_progress(text: str) -> None:
    """Print progress on stderr, apart from the results."""
    print(text, file=sys.stderr, flush=True)
