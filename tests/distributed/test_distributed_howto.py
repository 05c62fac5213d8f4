"""What the how-to says to run does run."""

import os
import subprocess
import sys
from pathlib import Path

from snippets import snippets

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "distributed.md"


def test_the_page_s_local_cluster_runs(platform, tmp_path):
    (local,) = [item for item in snippets(PAGE, "{code-block}") if "LocalCluster" in item.text]
    (tmp_path / "local.py").write_text(local.text, encoding="utf-8")
    itwin = platform.ask("imodels")[0]["itwin_id"]
    ran = subprocess.run(
        [sys.executable, tmp_path / "local.py", itwin, tmp_path / "out"],
        env=os.environ | platform.environment,
        capture_output=True,
        text=True,
        check=True,
    )
    rows, failures = ran.stdout.split(maxsplit=1)
    assert int(rows) > 0
    assert failures == "{}\n"
