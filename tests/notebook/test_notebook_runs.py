"""The notebook is true: a real kernel runs it, and what it shows is what the emulator holds."""

import base64
import re
import struct
from collections.abc import AsyncIterator
from pathlib import Path
from tempfile import gettempdir

import nbformat
import pytest
from kernel import STATE, kernel
from nbclient.exceptions import CellExecutionError

from itwin_async import ITwinSession
from itwin_async.emulator import Emulator
from itwin_async.sync import ParquetDataset, sync_extended_data

ROOT = Path(__file__).parents[2]
NOTEBOOK = ROOT / "examples" / "notebook.ipynb"
PICTURE = ROOT / "docs" / "images" / "notebook.png"
IMODEL = "5e19bee0-3aea-4355-a9f0-c6df9989ee7d"
WIDGET = "application/vnd.jupyter.widget-view+json"
SHOWN = """
    "itwins": [each.id for each in itwins],
    "imodel": imodel.id,
    "pushed": {str(index): when.isoformat() for index, when in pushed.items()},
    "rows": changes[["changeset", "task", "file"]].values.tolist(),
    "dated": int(changes["pushed"].notna().sum()),
    "summary": summary.reset_index().values.tolist() if "summary" in globals() else None,
    "requests": itwin.stats.requests,
"""


@pytest.fixture
async def emulator() -> AsyncIterator[Emulator]:
    async with Emulator(imodels=4, changesets=130, itwins=4) as running:
        yield running


@pytest.fixture
async def itwin(emulator: Emulator) -> AsyncIterator[ITwinSession]:
    async with ITwinSession(emulator.credentials, base_url=emulator.url) as session:
        yield session


def cells():
    """The sources of the notebook's cells of code, by their ids."""
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(notebook)
    return {cell.id: cell.source for cell in notebook.cells if cell.cell_type == "code"}


async def run_all(running):
    return {id: await running.run(source) for id, source in cells().items()}


def text_of(outputs):
    return "".join(output.get("text", "") for output in outputs)


def html_of(outputs):
    (output,) = outputs
    return output["data"]["text/html"]


def picture_of(outputs):
    """The one picture among some outputs: its PNG."""
    (found,) = [item.data["image/png"] for item in outputs if "image/png" in item.get("data", ())]
    return base64.b64decode(found)


def assert_is_a_picture(png):
    assert png.startswith(b"\x89PNG\r\n")
    width, height = struct.unpack(">II", png[16:24])
    assert 900 <= width <= 1_600
    assert 500 <= height <= 1_400
    assert 20_000 < len(png) < 150_000


def without_pictures(outputs):
    """What outputs show, without pictures and progress."""
    found = [output.get("data") or output["text"] for output in outputs]
    return [item for item in found if "image/png" not in item and WIDGET not in item]


def assert_flat(states):
    """No more files and tasks after six runs than after two: one left by each would be four."""
    files = [state["files"] for state in states]
    assert files[-1] <= files[1] + 2, files
    assert states[-1]["tasks"] <= states[1]["tasks"], states


async def changed(itwin, imodel_id):
    """Changeset, task and file of all that an iModel's extended data say."""
    return [
        [entry.changeset_index, entry.data["data"]["taskId"], file]
        async for entry in itwin.imodels.list_extended_data(imodel_id)
        for file in entry.data["data"]["changedFiles"]
    ]


async def test_notebook_shows_what_the_platform_holds(emulator, itwin, tmp_path):
    imodel_ids = [IMODEL, next(iter(set(emulator._state.imodels) - {IMODEL}))]
    await sync_extended_data(itwin, ParquetDataset(tmp_path / "changes"), imodel_ids=imodel_ids)
    async with kernel(tmp_path, emulator.environment) as running:
        outputs = await run_all(running)
        shown = await running.probe(SHOWN)
        assert running.complaints() == ""

    assert outputs["platform"] == []  # it runs no emulator of its own
    itwins = [item async for item in itwin.itwins.list_itwins()]
    assert shown["itwins"] == [item.id for item in itwins]
    assert all(item.display_name in html_of(outputs["itwins"]) for item in itwins)
    assert shown["imodel"] == IMODEL
    assert IMODEL in html_of(outputs["imodels"])
    changesets = [item async for item in itwin.imodels.list_changesets(IMODEL)]
    pushed = {str(item.index): item.push_date_time.isoformat() for item in changesets}
    assert shown["pushed"] == pushed
    rows = await changed(itwin, IMODEL)
    assert len(rows) > 130
    assert shown["rows"] == rows
    assert shown["dated"] == len(rows)
    assert f"{len(rows)} rows" in html_of([outputs["frame"][-1]])
    assert_is_a_picture(picture_of(outputs["picture"]))
    expected = []
    for imodel_id in sorted(imodel_ids):
        rows = await changed(itwin, imodel_id)
        expected.append([imodel_id, 130, len({task for _, task, _ in rows}), len(rows)])
    assert shown["summary"] == expected
    assert f">{shown['requests']}<" in html_of(outputs["stats"])


async def test_progress_bars_are_widgets_and_end_full(emulator, tmp_path):
    async with kernel(tmp_path, emulator.environment) as running:
        sources = cells()
        for id in ("platform", "session", "itwins", "imodels"):
            await running.run(sources[id])
        outputs = await running.run(sources["changesets"])
        assert [WIDGET in output.data for output in outputs] == [True]
        (bar,) = running.widgets("FloatProgressModel")
        assert (bar["value"], bar["bar_style"]) == (1.0, "success")
        assert any(re.match(r"\s*130/", text["value"]) for text in running.widgets("HTMLModel"))
        assert running.complaints() == ""


async def test_notebook_needs_no_account(tmp_path):
    async with kernel(tmp_path, {}) as running:
        outputs = await run_all(running)
        again = await running.run(cells()["platform"])
        shown = await running.probe(SHOWN)
        assert running.complaints() == ""
    assert "no ITWIN_CLIENT_ID" in text_of(outputs["platform"])
    assert again == []  # run again it keeps its emulator
    assert len(shown["rows"]) > 300
    assert_is_a_picture(picture_of(outputs["picture"]))
    # Without a data set the notebook tells how to make one.
    assert "itwin-async extended-data sync --itwin dc914a84-" in text_of(outputs["data-set"])

    kept = nbformat.read(NOTEBOOK, as_version=4)
    kept = {cell.id: cell.outputs for cell in kept.cells if cell.cell_type == "code"}
    for id in ("frame", "data-set"):  # `make notebook` was run after the last change
        assert without_pictures(outputs[id]) == without_pictures(kept[id])


async def test_one_line_leads_to_an_itwin_of_your_own(emulator, tmp_path):
    own = "515fb7dc-d306-46be-a5e4-a6d87778eca1"
    sources = cells()
    line = "ITWIN_ID = None"
    assert line in sources["platform"]
    sources["platform"] = sources["platform"].replace(line, f"ITWIN_ID = {own!r}")
    async with kernel(tmp_path, emulator.environment) as running:
        outputs = [await running.run(source) for source in sources.values()]
        shown = await running.probe('"itwin": imodel.itwin_id')
        assert running.complaints() == ""
    assert outputs[0] == []  # it runs no emulator of its own
    assert shown == {"itwin": own}


@pytest.mark.parametrize(("user", "told"), [("guest", "No iTwins: "), ("owner", "No iModels in ")])
async def test_an_account_that_sees_nothing_is_told_what_may_be_wrong(user, told, tmp_path):
    sources = cells()
    async with Emulator() as emulator:
        emulator._state.imodels.clear()
        environment = {
            "ITWIN_BASE_URL": emulator.url,
            "ITWIN_CLIENT_ID": emulator.user_client_id,
            "ITWIN_ACCESS_TOKEN": emulator.issue_token(user=user),
        }
        async with kernel(tmp_path, environment) as running:
            for id in ("platform", "session", "itwins"):
                await running.run(sources[id])
            with pytest.raises(CellExecutionError) as caught:
                await running.run(sources["imodels"])
    assert caught.value.ename == "LookupError"
    assert caught.value.evalue.startswith(told)


def test_kept_outputs_are_small_and_whole():
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    kept = {cell.id: cell.outputs for cell in notebook.cells if cell.cell_type == "code"}
    assert NOTEBOOK.stat().st_size < 300_000
    kinds = {output.output_type for outputs in kept.values() for output in outputs}
    assert kinds == {"stream", "execute_result", "display_data"}
    assert {output.name for outputs in kept.values() for output in outputs if "name" in output} == {
        "stdout"
    }
    png = picture_of(kept["picture"])
    assert_is_a_picture(png)
    assert PICTURE.read_bytes() == png
    for id, source in cells().items():
        shown = f"{source} {without_pictures(kept[id])}"
        for private in (str(ROOT), str(Path.home()), gettempdir(), "Bearer", "eyJ"):
            assert private not in shown, id


@pytest.mark.parametrize("ids", [("session",), ("session", "itwins", "imodels", "changesets")])
async def test_running_cells_again_leaves_nothing_behind(ids, emulator, tmp_path):
    sources = cells()
    async with kernel(tmp_path, emulator.environment) as running:
        states = []
        await running.run(sources["platform"])
        for _ in range(6):
            for id in ids:
                await running.run(sources[id])
            if ids == ("session",):
                await running.run("account = await itwin.itwins.get_primary_account()")
            states.append(await running.probe(STATE))
        assert running.complaints() == ""
    assert_flat(states)


async def test_a_list_left_half_read_in_a_cell_leaves_nothing_behind(emulator, tmp_path):
    cell = """
from itwin_async import ITwinSession
itwin = ITwinSession.from_env()
async for entry in itwin.imodels.list_extended_data(%r, page_size=10).ahead(4):
    if entry.changeset_index == 15:
        break
"""
    async with kernel(tmp_path, emulator.environment) as running:
        states = []
        for _ in range(6):
            await running.run(cell % IMODEL)
            states.append(await running.probe(STATE))
        await running.run("del itwin, entry")
        states.append(await running.probe(STATE))
        assert running.complaints() == ""
    assert_flat(states)


async def test_a_session_that_leaks_would_be_noticed(emulator, tmp_path):
    cell = f"""
import aiohttp
http = aiohttp.ClientSession()
answer = await http.get("{emulator.url}/nothing")
del http, answer
"""
    async with kernel(tmp_path, {}) as running:
        await running.run(cell)
        await running.probe(STATE)
        assert "Unclosed client session" in running.complaints()
