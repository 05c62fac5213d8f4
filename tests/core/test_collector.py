"""The garbage collector does not run in the middle of decoding a large payload."""

import gc
import json
from collections.abc import Iterator

import msgspec
import pytest

from itwin_async._core.collector import decode_uncollected
from itwin_async.imodels.extended_data_entry import extended_data

LARGE = json.dumps({"rows": [{"id": number, "at": [number]} for number in range(5_000)]}).encode()
decode = msgspec.json.Decoder(dict).decode


@pytest.fixture
def collections() -> Iterator[list[str]]:
    """How often the collector began to run."""
    began = []

    def noticed(phase, _):
        if phase == "start":
            began.append(phase)

    gc.collect()
    gc.callbacks.append(noticed)
    yield began
    gc.callbacks.remove(noticed)


def test_a_large_payload_is_decoded_without_a_collection(collections):
    entry = extended_data("c1", 1, LARGE, "i1")
    before = len(collections)
    data = entry.data
    assert len(collections) - before <= 1  # after it, in which Python 3.12 makes up for it
    assert len(data["rows"]) == 5_000
    assert gc.isenabled()


@pytest.mark.parametrize("enabled", [True, False])
@pytest.mark.parametrize("data", [LARGE, LARGE[:-1], b"{}"])
def test_the_collector_is_as_it_was_afterwards(enabled, data):
    if not enabled:
        gc.disable()
    try:
        try:
            decode_uncollected(decode, data)
        except msgspec.DecodeError:
            assert data == LARGE[:-1]
        assert gc.isenabled() == enabled
    finally:
        gc.enable()
