"""An S3 server in a process of its own, with an empty bucket for each test."""

import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest
import s3fs

sys.path.append(str(Path(__file__).parent.parent / "sync"))


@pytest.fixture(scope="session")
def server() -> Iterator[str]:
    """The address of the server."""
    process = subprocess.Popen(
        [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", "0"],
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert process.stderr is not None
        for line in process.stderr:
            if found := re.search(r"http://127\.0\.0\.1:\d+", line):
                break
        else:
            raise AssertionError("the server did not start")
        # It logs each request, and would wait for somebody to read that.
        reader = threading.Thread(target=process.stderr.read)
        reader.start()
        yield found[0]
    finally:
        process.kill()
        process.wait()
        reader.join()
        process.stderr.close()


@pytest.fixture
def options(server: str) -> dict[str, str]:
    """What fsspec needs to reach it."""
    return {"endpoint_url": server, "key": "key-of-the-test", "secret": "secret-of-the-test"}


@pytest.fixture
def bucket(options: dict[str, str]) -> str:
    """The name of an empty bucket."""
    name = f"b-{uuid4().hex}"
    s3fs.S3FileSystem(**options).mkdir(name)
    return name
