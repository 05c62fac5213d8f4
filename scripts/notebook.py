"""Run `examples/notebook.ipynb` on its emulated platform and keep what it shows: `make notebook`.

Writes the outputs into the notebook, and its picture to `docs/images/notebook.png`.
"""

import base64
import os
import tempfile
from pathlib import Path

import nbformat
from jupyter_client import AsyncKernelManager
from nbclient import NotebookClient

ROOT = Path(__file__).parent.parent
NOTEBOOK = ROOT / "examples" / "notebook.ipynb"
PICTURE = ROOT / "docs" / "images" / "notebook.png"
WIDGET = "application/vnd.jupyter.widget-view+json"


def main() -> None:
    """Run it."""
    for name in [name for name in os.environ if name.startswith("ITWIN_")]:
        del os.environ[name]  # never the account of whoever runs this
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    with tempfile.TemporaryDirectory() as empty:
        NotebookClient(
            notebook,
            timeout=120,
            coalesce_streams=True,
            km=AsyncKernelManager(transport="ipc", ip=f"{empty}/kernel"),
            record_timing=False,
            store_widget_state=False,
            resources={"metadata": {"path": empty}},
        ).execute(cleanup_kc=True)
    pictures = []
    for cell in notebook.cells:
        # A saved progress bar would stay at 0 %.
        outputs = [one for one in cell.get("outputs", ()) if WIDGET not in one.get("data", ())]
        if "outputs" in cell:
            cell.outputs = outputs
        pictures += [one.data["image/png"] for one in outputs if "image/png" in one.get("data", ())]
    notebook.metadata.language_info = {"name": "python"}  # not the version that happened to run it
    nbformat.write(notebook, NOTEBOOK)
    (picture,) = pictures
    PICTURE.parent.mkdir(exist_ok=True)
    PICTURE.write_bytes(base64.b64decode(picture))
    for path in (NOTEBOOK, PICTURE):
        print(f"{path.relative_to(ROOT)}: {path.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
