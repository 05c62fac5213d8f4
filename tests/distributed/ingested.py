"""What workers import, and what a driver in a process of its own runs."""

import json
import sys
from collections.abc import Iterable

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
from distributed import Client

from itwin_async import ClientCredentials
from itwin_async.distributed import ingest_extended_data


class Changes(msgspec.Struct, rename="camel"):
    changed_files: list[str]
    task_id: str


class Payload(msgspec.Struct):
    data: Changes


def provider() -> ClientCredentials:
    """An importable factory that is no class's."""
    return ClientCredentials.from_env()


_calls: list[None] = []


def provider_that_fails_first() -> ClientCredentials:
    """In each process: a vault that is away for a moment."""
    _calls.append(None)
    if len(_calls) == 1:
        raise RuntimeError("the vault is away")
    return ClientCredentials.from_env()


def rows_of(paths: Iterable[str]) -> pa.Table:
    """All rows, in order."""
    table = pa.concat_tables([pq.read_table(path) for path in paths])
    return table.sort_by([("imodel_id", "ascending"), ("changeset_index", "ascending")])


def raw_bytes(table: pa.Table) -> bytes:
    """All that there is of a table, in a layout that its making does not show in."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as out:
        out.write_table(table.combine_chunks())
    return sink.getvalue().to_pybytes()


def keys_of(table: pa.Table) -> list[tuple[str, int]]:
    return list(
        zip(table["imodel_id"].to_pylist(), table["changeset_index"].to_pylist(), strict=True)
    )


def main() -> None:
    """Ingest as ``argv`` says in JSON: scheduler, imodel_ids, destination, and options."""
    how = json.loads(sys.argv[1])
    scheduler, destination = how.pop("scheduler"), how.pop("destination")
    with Client(scheduler) as client:
        found = ingest_extended_data(
            client, ClientCredentials.from_env, how.pop("imodel_ids"), destination, **how
        )
    json.dump([found.rows, found.bad, found.imodels, len(found.paths)], sys.stdout)


if __name__ == "__main__":
    main()
