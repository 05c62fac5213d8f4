"""Lazy lists: values that are iterated page by page, by the links that the platform gives."""

from typing import Any, Final, Generic, NoReturn, TypeVar

from itwin_async._core.html import hint
from itwin_async._core.misuse import explain_misuse
from itwin_async._core.validation import check_count
from itwin_async._pagination.cursor import Cursor
from itwin_async._pagination.list_context import ListContext
from itwin_async._pagination.list_iterators import ItemIterator, PageIterator
from itwin_async._pagination.list_spec import ListSpec
from itwin_async._pagination.page_reader import PageReader

T = TypeVar("T")


class Pager(Generic[T]):
    """A list of the platform. Nothing is requested before it is iterated.

    ``async for item in pager`` starts from the beginning each time. A page is requested when its
    first item is wanted, or earlier with `ahead`. Iterating raises the library's errors, after all
    items that came before the error.

    Example::

        extensions = itwin.extensions.list_extensions()
        async for extension in extensions:
            print(extension.name)
    """

    __slots__ = ("_ahead", "_context", "_limit", "_spec", "_start")

    def __init__(
        self,
        context: ListContext,
        spec: ListSpec[Any, T],
        *,
        ahead: int = 0,
        start: "Cursor | None" = None,
        limit: int | None = None,
    ) -> None:
        self._context = context
        self._spec = spec
        self._ahead = ahead
        self._start = start
        self._limit = limit

    def __repr__(self) -> str:
        request = self._spec.request
        return f"Pager({request.operation.method} {request.target.partition('?')[0]})"

    def _repr_html_(self) -> str:
        return hint(repr(self), "[item async for item in pager]", "await anext(pager.pages())")

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            "a Pager does not pickle: send what it is made of, and make it in each process from a "
            "session of its own"
        )

    def __bool__(self) -> bool:
        return True  # whatever it has, which only a request would tell

    def __aiter__(self) -> "ItemIterator[T]":
        return ItemIterator(self._reader())

    @property
    def item_type(self) -> Any:
        """The type of the items, such as `IModel`, or ``ExtendedData[Payload]``."""
        return self._spec.type_of_items

    def pages(self) -> "PageIterator[T]":
        """The same list as whole pages, each of which is in memory at once.

        Example::

            async for page in itwin.imodels.list_imodels(itwin_id).pages():
                print(len(page.items), page.cursor)
        """
        return PageIterator(self._reader())

    def ahead(self, pages: int) -> "Pager[T]":
        """The same list with up to so many pages requested ahead of the one being read; 0 is none.

        The window grows 1, 3, 4, 5, 7 … ``pages``, with the pages that the list is known to have.
        Later pages are predicted from the links seen so far and used only when the page before
        names exactly that link, so order and content are as without. Only idle slots of the limiter
        are used, and none while ``pages`` or more other requests are in flight. Past the end of a
        list of three pages or more, up to as many requests may be sent in vain as it has pages, and
        at most ``pages``; they count against the rate limit.

        Example::

            changesets = itwin.imodels.list_changesets(imodel_id, page_size=1_000)
            total = sum([changeset.file_size or 0 async for changeset in changesets.ahead(8)])
        """
        check_count("pages", pages, least=0)
        return self._changed(ahead=pages)

    def resume(self, cursor: str) -> "Pager[T]":
        """The rest of the list behind a cursor that an iterator or a page gave, in any process.

        A cursor taken at the end of a list in order of age (extended data, changesets that are not
        ``"desc"``, versions of an extension) gives what was added at the end since: the last page
        is read again, and what it gave is left out. What was added before the end meanwhile, such
        as extended data of an older changeset, does not come; `itwin_async.sync.ChangeFeed` finds
        it. For other lists nothing comes behind the end, and nothing is requested.

        Raises `ValueError` for a string that is no cursor of this list. Cursors are not signed: one
        that others could change may lead to any path of the platform.

        Example::

            imodels = itwin.imodels.list_imodels(itwin_id)
            async with aiter(imodels) as items:
                first = await anext(items)
                cursor = items.cursor  # a string to store

            rest = [imodel async for imodel in imodels.resume(cursor)]
        """
        return self._changed(start=Cursor.parse(cursor, self._spec.digest))

    def take(self, n: int) -> "Pager[T]":
        """At most the first ``n`` items of the same list; behind a cursor, of what comes there.

        No page is requested beyond the one that has the last of them, also not ahead of its turn.
        The iterator's cursor then lies behind the last item, and ``resume`` of the whole list goes
        on from there; ``resume`` of this one gives the next ``n``. The page size stays as it is.

        Example::

            newest = itwin.imodels.list_changesets(imodel_id, order="desc").take(3)
            print([changeset.index async for changeset in newest])
        """
        check_count("n", n, least=0)
        return self._changed(limit=n if self._limit is None else min(n, self._limit))

    async def first(self) -> T | None:
        """The first item, or None where the list is empty. What was opened for it is closed.

        Example::

            newest = await itwin.imodels.list_changesets(imodel_id, order="desc").first()
            print(newest.index if newest is not None else "no changesets")
        """
        async with aiter(self.take(1)) as items:
            async for item in items:
                return item
        return None

    def _changed(
        self, *, ahead: int | None = None, start: Cursor | None = None, limit: int | None = None
    ) -> "Pager[T]":
        return Pager(
            self._context,
            self._spec,
            ahead=self._ahead if ahead is None else ahead,
            start=start or self._start,
            limit=self._limit if limit is None else limit,
        )

    def _reader(self) -> "PageReader[T]":
        spec = self._spec
        start = self._start or Cursor(spec.digest, spec.request.target, 0)
        return PageReader(self._context, spec, start, self._ahead, self._limit)


_A_LIST: Final = "a list of the platform is"
_NOT_ENTERED: Final = f"{_A_LIST} not entered, its iterator is: `async with aiter(pager) as items`"
_NO_SEQUENCE: Final = (
    f"{_A_LIST} read as it arrives, and has no length or index: "
    "[item async for item in pager] has all items, `pager.take(3)` the first three"
)

explain_misuse(
    Pager,
    {
        "__iter__": f"{_A_LIST} iterated with `async for`: [item async for item in pager]",
        "__await__": f"{_A_LIST} not awaited: [item async for item in pager] has its items, "
        "`await pager.first()` the first of them",
        "__anext__": f"{_A_LIST} no iterator: take one with `items = aiter(pager)`, "
        "or `await pager.first()`",
        "__aenter__": _NOT_ENTERED,
        "__aexit__": _NOT_ENTERED,
        "__getitem__": _NO_SEQUENCE,
        "__len__": _NO_SEQUENCE,
        "__contains__": f"{_A_LIST} searched with `async for`: "
        "wanted in [item.id async for item in pager]",
    },
)
