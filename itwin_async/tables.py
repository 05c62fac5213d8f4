"""Arrow tables of any list, for polars, duckdb, pandas and whatever else reads Arrow.

It needs the extra ``arrow``. Polars, duckdb and pandas take the tables as they are, without a copy
of what they hold in the same form.
"""

from collections.abc import AsyncIterable, AsyncIterator
from typing import Any, Final, Self, cast, get_args, get_origin

from itwin_async import ExtendedData, Pager, PayloadError
from itwin_async._aio.threads import in_thread
from itwin_async._core.validation import check_count, check_flag
from itwin_async._rows.entries import BadRow, Row, bad_row, unfit, unfit_row
from itwin_async._rows.types import AS_IT_CAME

try:
    from itwin_async._rows.arrow import ExtendedDataColumns
    from itwin_async._rows.columns import PA
    from itwin_async._rows.records import Columns, InferredColumns, columns_of
except ModuleNotFoundError as _error:
    if _error.name != "pyarrow":
        raise
    raise ImportError("tables need pyarrow: pip install 'itwin-async[arrow]'") from None

__all__ = ["BadRow", "Batches", "batches", "table"]

_ROWS: Final = 65_536
_MAX_BYTES: Final = 64 << 20  # of payloads in a batch


def batches(
    items: AsyncIterable[Any],
    rows: int = 65_536,
    *,
    bad: list[BadRow] | None = None,
    signed_links: bool = False,
) -> "Batches":
    """A list as record batches of Arrow (`pyarrow.RecordBatch`), all with one schema.

    Extended data has the columns ``imodel_id``, ``changeset_index``, ``changeset_id`` and ``data``:
    a nested column where the list has a ``data_type`` with fields, else the payload's JSON as text.
    The columns of any other list are its records' fields in snake case, nested records are nested
    columns. The items of a list without a type (dicts) have the columns of their keys, as the first
    batch shows them.

    Args:
        items: a list such as ``itwin.imodels.list_imodels(...)``; or any other async iterable of
            items of one type, such as that of `merged`.
        rows: in a batch, at most. It has fewer where their payloads have 64 MiB.
        bad: a list of yours. Entries whose payload is bad or does not fit its column are appended
            to it, with the reason and the payload, and the others go on. Without it the first of
            them raises its `PayloadError`, after the rows before it.
        signed_links: whether links that work without a token become columns.

    Example::

        bad = []
        entries = itwin.imodels.list_extended_data(imodel_id)
        async for batch in batches(entries, bad=bad):
            print(batch.num_rows, len(bad))

    Iterating raises what the list raises, after the rows before it, and `ValueError` for an item
    that does not fit the columns. Raises `TypeError` or `ValueError` at once for what cannot be
    used, and for items of a type that has no columns.
    """
    check_count("rows", rows)
    return Batches(items, rows, bad, signed_links=signed_links)


async def table(
    items: AsyncIterable[Any], *, bad: list[BadRow] | None = None, signed_links: bool = False
) -> Any:
    """A whole list as one `pyarrow.Table`, with the columns that `batches` gives it.

    Of dicts all keys become columns, also those that come late. Raises as `batches` does.

    Example::

        imodels = await table(itwin.imodels.list_imodels(itwin_id))
        print(imodels.select(["id", "display_name"]).num_rows)
    """
    found = Batches(items, _ROWS, bad, signed_links=signed_links, one_schema=False)
    async with found:
        tables = [PA.Table.from_batches([batch]) async for batch in found]
    if tables:
        return PA.concat_tables(tables, promote_options="permissive")
    return (found.schema or PA.schema([])).empty_table()


class Batches(AsyncIterator[Any]):
    """A list in record batches, which `batches` makes. `aclose` or ``async with`` ends it early."""

    def __init__(
        self,
        items: AsyncIterable[Any],
        rows: int,
        bad: list[BadRow] | None,
        *,
        signed_links: bool,
        one_schema: bool = True,
    ) -> None:
        given: object = items
        if not isinstance(given, AsyncIterable):
            raise TypeError(
                "items must be a Pager or what else `async for` iterates, such as "
                f"itwin.itwins.list_itwins(), not {type(given).__name__}"
            )
        if bad is not None and not isinstance(cast("object", bad), list):
            raise TypeError(f"bad must be a list to append to, not {type(bad).__name__}")
        check_flag("signed_links", signed_links)
        self._items: AsyncIterable[Any] = items
        self._rows: Final = rows
        self._bad = bad
        self._signed_links: Final = signed_links
        self._one_schema: Final = one_schema
        self._iterator: AsyncIterator[Any] | None = None
        self._failure: Exception | None = None  # raised behind the rows before it
        self._done = False
        self._columns: ExtendedDataColumns | Columns | None = None
        if isinstance(items, Pager):
            self._columns = self._columns_for(items.item_type)

    @property
    def schema(self) -> Any:
        """The `pyarrow.Schema` of all batches; None where the first item has to show it."""
        return None if self._columns is None else self._columns.schema

    def __aiter__(self) -> Self:
        return self

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the list."""
        self._done, self._failure = True, None
        iterator, self._iterator = self._iterator, None
        if (close := getattr(iterator, "aclose", None)) is not None:
            await close()

    async def __anext__(self) -> Any:
        while not self._done:
            try:
                items = await self._take()
                if items:
                    return await in_thread(self._batch, items)
            except Exception as error:  # noqa: BLE001 - raised below, once the list is closed
                self._failure = error
                self._done = True
            except BaseException:
                self._done = True
                self._failure = RuntimeError(
                    "these batches were cancelled while they were waited for"
                )
                raise
        failure = self._failure
        await self.aclose()
        raise StopAsyncIteration if failure is None else failure

    async def _take(self) -> list[Any]:
        """The rows or records of the next batch; fewer where the list ends or fails."""
        if self._iterator is None:
            self._iterator = aiter(self._items)
        taken: list[Any] = []
        size = 0
        try:
            while len(taken) < self._rows and size < _MAX_BYTES:
                item = await anext(self._iterator)
                if self._columns is None:
                    self._columns = self._columns_like(item)
                if not isinstance(self._columns, ExtendedDataColumns):
                    taken.append(item)
                elif (row := self._row(self._columns, item)) is not None:
                    taken.append(row)
                    size += row.size
        except StopAsyncIteration:
            self._done = True
        except Exception as error:  # noqa: BLE001 - raised behind these rows
            self._done, self._failure = True, error
        return taken

    def _row(self, columns: ExtendedDataColumns, entry: ExtendedData[Any]) -> Row | None:
        try:
            data, size = columns.encode(entry)
        except PayloadError as error:
            if self._bad is None:
                raise
            self._bad.append(bad_row(entry, error.message))
            return None
        return Row(entry.imodel_id, entry.changeset_index, entry.changeset_id, data, size)

    def _batch(self, items: list[Any]) -> Any:
        columns = self._columns
        if not isinstance(columns, ExtendedDataColumns):
            if not self._one_schema and isinstance(columns, InferredColumns):
                columns = InferredColumns()
            assert columns is not None  # noqa: S101 - there are items
            return columns.batch(items)
        left_out: list[tuple[Row, str]] = []
        batch = columns.batch(items, left_out)
        bad = [unfit_row(row, reason) for row, reason in left_out]
        if self._bad is not None:
            self._bad += bad
        elif bad and self._failure is None:
            self._done, self._failure = True, unfit(bad[0], bad[0].reason)
        return batch

    def _columns_for(self, item_type: Any) -> ExtendedDataColumns | Columns:
        if get_origin(item_type) is ExtendedData:
            return _entry_columns(get_args(item_type)[0])
        return columns_of(item_type, signed_links=self._signed_links)

    def _columns_like(self, item: Any) -> ExtendedDataColumns | Columns:
        if isinstance(item, ExtendedData):
            return _entry_columns(item.data_type)
        return self._columns_for(type(item))


def _entry_columns(data_type: Any) -> ExtendedDataColumns:
    return ExtendedDataColumns(None if data_type in AS_IT_CAME else data_type)
