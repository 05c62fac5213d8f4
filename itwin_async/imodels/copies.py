"""Clones and forks of iModels."""

import re
from types import NoneType
from typing import Final

from itwin_async._core.operation import Operation, Request
from itwin_async._core.validation import Id, check_flag
from itwin_async.errors import DecodeError
from itwin_async.imodels.changesets import id_or_index
from itwin_async.imodels.creation import TIMEOUT, CreationOperations, check_wait, new_imodel
from itwin_async.imodels.imodels import IModel

_ID_IN_URL: Final = re.compile(r"/imodels/([^/?#]+)", re.IGNORECASE)
_LONGEST_INDEX: Final = 40  # digits from which on text is an id, which has 40

CLONE_IMODEL: Final = Operation("POST", "/imodels/{imodel_id}/clone", NoneType, version="v2")
FORK_IMODEL: Final = Operation("POST", "/imodels/{imodel_id}/fork", NoneType, version="v2")


class CopyOperations(CreationOperations):
    """Operations that copy iModels."""

    async def clone_imodel(
        self,
        imodel_id: Id,
        itwin_id: Id,
        *,
        name: str | None = None,
        description: str | None = None,
        containers_enabled: int | None = None,
        changeset: str | int | None = None,
        wait: bool = True,
        timeout: float = TIMEOUT,  # noqa: ASYNC109 - its error says what the state was
    ) -> IModel:
        """Copy an iModel with its changesets to an iTwin, the same one or another.

        ``name`` and ``description`` are those of the original where they are not given.
        ``changeset`` is the id or index of the last changeset to copy, ``0`` or ``""`` for the
        baseline alone; all of them where None. ``containers_enabled`` is as for `create_imodel`.

        With ``wait`` it returns once the copy is made, as `wait_until_created` does within
        ``timeout`` seconds; else at once an `IModel` of which only ``id`` is known. Raises
        `NotFoundError` for an unknown iModel, changeset or iTwin, and `ConflictError` where the
        iTwin has an iModel of this name. Not sent again where its outcome is unknown.
        Platform page: https://developer.bentley.com/apis/imodels-v2/operations/clone-imodel/

        Example::

            copy = await itwin.imodels.clone_imodel(imodel_id, itwin_id, name="Copy", changeset=3)
        """
        body = _copy(itwin_id, name, description, containers_enabled, changeset)
        request = CLONE_IMODEL.request(imodel_id=imodel_id, body=body)
        return await self._create_copy(request, wait=wait, timeout=timeout)

    async def fork_imodel(
        self,
        imodel_id: Id,
        itwin_id: Id,
        *,
        name: str | None = None,
        description: str | None = None,
        containers_enabled: int | None = None,
        changeset: str | int | None = None,
        preserve_history: bool = False,
        wait: bool = True,
        timeout: float = TIMEOUT,  # noqa: ASYNC109 - its error says what the state was
    ) -> IModel:
        """Make a fork of an iModel, which keeps its relationship to the original.

        Without ``preserve_history`` the changesets are merged into the fork's baseline. The other
        arguments, and what is raised, are those of `clone_imodel`; the elements of the original
        need federation GUIDs, else its creation fails with an `ITwinError`.
        Platform page: https://developer.bentley.com/apis/imodels-v2/operations/fork-imodel/

        Example::

            fork = await itwin.imodels.fork_imodel(imodel_id, itwin_id, name="Variant")
        """
        check_flag("preserve_history", preserve_history)
        body = _copy(itwin_id, name, description, containers_enabled, changeset)
        body["preserveHistory"] = preserve_history
        request = FORK_IMODEL.request(imodel_id=imodel_id, body=body)
        return await self._create_copy(request, wait=wait, timeout=timeout)

    async def _create_copy(
        self,
        request: Request[None],
        *,
        wait: bool,
        timeout: float,  # noqa: ASYNC109 - as `wait_until_created`
    ) -> IModel:
        check_wait(wait, timeout)
        answer = await self._call_whole(request)
        found = _ID_IN_URL.search(answer.headers.get("Location", ""))
        if found is None:
            error = DecodeError(f"{request.operation} was answered without the new iModel's URL")
            error.operation, error.request_id = str(request.operation), answer.request_id
            error.outcome_unknown = True
            raise error
        if not wait:
            return IModel(id=found[1])
        return await self.wait_until_created(found[1], timeout=timeout)


def _copy(
    itwin_id: Id,
    name: str | None,
    description: str | None,
    containers_enabled: int | None,
    changeset: str | int | None,
) -> dict[str, object]:
    """The body of a clone or a fork."""
    body = new_imodel(itwin_id, name, description, None, containers_enabled)
    if changeset is not None:
        text = id_or_index(changeset)
        if text.isascii() and text.isdigit() and len(text) < _LONGEST_INDEX:
            body["changesetIndex"] = int(text)
        else:
            body["changesetId"] = text
    return body
