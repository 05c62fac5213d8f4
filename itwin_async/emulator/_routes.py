"""The table of all operations. One more operation is its handler, and its row here."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from itwin_async.emulator._api import (
    baseline,
    briefcases,
    changeset_groups,
    changesets,
    checkpoints,
    creation,
    downloads,
    edfs,
    extended_data,
    extensions,
    favorites,
    imodel_users,
    imodels,
    itwins,
    locks,
    named_versions,
    packages,
    sign_in,
    storage,
    thumbnails,
    users,
    webhooks,
)
from itwin_async.emulator._api.route import Access, Route, route

_PACKAGE: Final = "/edfs/itwins/{itwin_id}/packages/{unique_name}"
_ODATA: Final = f"{_PACKAGE}/odata"
_SYSTEMS: Final = "/edfs/itwins/{itwin_id}/systems"
_TIMERS: Final = "/edfs/itwins/{itwin_id}/timers"
_FAVORITES: Final = "/imodels/favorites"
_RECENTS: Final = "/imodels/recents"
_IMODEL: Final = "/imodels/{imodel_id}"
_CHANGESETS: Final = f"{_IMODEL}/changesets"
_NAMED: Final = f"{_IMODEL}/namedversions"
_ONE_NAMED: Final = f"{_NAMED}/{{named_version_id}}"
_GROUPS: Final = f"{_IMODEL}/changesetgroups"
_ONE_GROUP: Final = f"{_GROUPS}/{{group_id}}"
_BRIEFCASES: Final = f"{_IMODEL}/briefcases"
_ONE_BRIEFCASE: Final = f"{_BRIEFCASES}/{{briefcase_id}}"
_LOCKS: Final = f"{_IMODEL}/locks"
_DATA: Final = f"{_CHANGESETS}/{{changeset}}/extendeddata"
_VERSIONS: Final = "/extensions/{extension_id}/versions"
_WEBHOOK: Final = "/webhooks/{webhook_id}"
_BLOBS: Final = "/blob/{extension_id}/{number}"
_FILE: Final = "/storage/{container}/{name}"
_DISCOVERY: Final = "/.well-known/openid-configuration"

_CLIENT_OPERATIONS: Final = (
    route("GET", "/extensions/", extensions.list_extensions),
    route("POST", "/extensions/", extensions.create_extension),
    route("DELETE", "/extensions/{extension_id}", extensions.delete_extension),
    route("GET", _VERSIONS, extensions.list_versions),
    route("GET", f"{_VERSIONS}/{{number}}", extensions.get_version),
    route("GET", "/imodels/", imodels.list_imodels),
    route("POST", "/imodels", creation.create_imodel),
    route("GET", _FAVORITES, favorites.list_favorites),
    route("PUT", f"{_FAVORITES}/{{imodel_id}}", favorites.add_favorite, Access.READ),
    route("DELETE", f"{_FAVORITES}/{{imodel_id}}", favorites.remove_favorite, Access.READ),
    route("GET", _RECENTS, favorites.list_recents),
    route("POST", f"{_RECENTS}/{{imodel_id}}", favorites.add_recent, Access.READ),
    route("DELETE", f"{_RECENTS}/{{imodel_id}}", favorites.remove_recent, Access.READ),
    route("GET", _IMODEL, imodels.get_imodel),
    route("PATCH", _IMODEL, imodels.update_imodel),
    route("DELETE", _IMODEL, imodels.delete_imodel),
    route("POST", f"{_IMODEL}/clone", creation.clone_imodel),
    route("POST", f"{_IMODEL}/fork", creation.fork_imodel),
    route("GET", f"{_IMODEL}/operations/create", creation.get_creation),
    route("GET", f"{_IMODEL}/baselinefile", baseline.get_baseline_file),
    route("POST", f"{_IMODEL}/baselinefile", baseline.confirm_baseline_file),
    route("GET", f"{_IMODEL}/thumbnail", thumbnails.get_thumbnail),
    route("PUT", f"{_IMODEL}/thumbnail", thumbnails.upload_thumbnail),
    route("GET", f"{_IMODEL}/users", imodel_users.list_users),
    route("GET", f"{_IMODEL}/users/{{user_id}}", imodel_users.get_user),
    route("GET", f"{_IMODEL}/permissions", imodel_users.get_permissions, Access.TOKEN),
    route("GET", _CHANGESETS, changesets.list_changesets),
    route("GET", f"{_CHANGESETS}/extendeddata", extended_data.list_extended_data),
    route("GET", f"{_CHANGESETS}/{{changeset}}", changesets.get_changeset),
    route("POST", _CHANGESETS, changesets.create_changeset),
    route("PATCH", f"{_CHANGESETS}/{{changeset_id}}", changesets.confirm_changeset),
    route("GET", _DATA, extended_data.get_extended_data),
    route("POST", _DATA, extended_data.create_extended_data),
    route("GET", _NAMED, named_versions.list_named_versions),
    route("GET", _ONE_NAMED, named_versions.get_named_version),
    route("POST", _NAMED, named_versions.create_named_version),
    route("PATCH", _ONE_NAMED, named_versions.update_named_version),
    route("GET", _GROUPS, changeset_groups.list_changeset_groups),
    route("GET", _ONE_GROUP, changeset_groups.get_changeset_group),
    route("POST", _GROUPS, changeset_groups.create_changeset_group),
    route("PATCH", _ONE_GROUP, changeset_groups.update_changeset_group),
    route(
        "GET",
        f"{_CHANGESETS}/{{changeset}}/checkpoint",
        checkpoints.get_changeset_checkpoint,
        Access.FILES,
    ),
    route(
        "GET", f"{_ONE_NAMED}/checkpoint", checkpoints.get_named_version_checkpoint, Access.FILES
    ),
    route("PUT", f"{_ONE_NAMED}/checkpoint", checkpoints.generate_checkpoint),
    route("GET", f"{_BRIEFCASES}/checkpoint", checkpoints.get_latest_checkpoint, Access.FILES),
    route("GET", _BRIEFCASES, briefcases.list_briefcases, Access.FILES),
    route("GET", _ONE_BRIEFCASE, briefcases.get_briefcase, Access.FILES),
    route("POST", _BRIEFCASES, briefcases.acquire_briefcase),
    route("DELETE", _ONE_BRIEFCASE, briefcases.release_briefcase),
    route("GET", _LOCKS, locks.list_locks),
    route("PATCH", _LOCKS, locks.update_locks),
    route("POST", f"{_LOCKS}/release-chunk", locks.release_locks),
    route("GET", f"{_LOCKS}/released-locks", locks.list_released_locks),
    route("GET", "/edfs/packages", packages.list_packages),
    route("GET", "/edfs/packages/{unique_name}", packages.get_package),
    route("POST", _PACKAGE, packages.execute_package),
    route("GET", _ODATA, packages.list_entity_sets),
    route("GET", f"{_ODATA}/{{entity_set}}", packages.list_entities),
    route("GET", "/edfs/packages/roles", edfs.list_package_roles),
    route("GET", f"{_PACKAGE}/roles", edfs.list_role_assignments),
    route("POST", f"{_PACKAGE}/roles", edfs.add_role_assignments),
    route("GET", _SYSTEMS, edfs.list_systems),
    route("POST", _SYSTEMS, edfs.create_system),
    route("DELETE", f"{_SYSTEMS}/{{id}}", edfs.delete_system),
    route("GET", _TIMERS, edfs.list_timers),
    route("POST", _TIMERS, edfs.create_timer),
    route("PATCH", f"{_TIMERS}/{{timer_id}}/toggle", edfs.toggle_timer),
    route("DELETE", f"{_TIMERS}/{{timer_id}}", edfs.delete_timer),
    route("GET", "/itwins/", itwins.list_itwins, Access.TOKEN),
    route("GET", "/itwins/myprimaryaccount", itwins.get_primary_account, Access.TOKEN),
    route("GET", "/itwins/{itwin_id}/account", itwins.get_account),
    route("GET", "/webhooks/", webhooks.list_webhooks),
    route("POST", "/webhooks/", webhooks.create_webhook),
    route("GET", _WEBHOOK, webhooks.get_webhook),
    route("PATCH", _WEBHOOK, webhooks.update_webhook),
    route("DELETE", _WEBHOOK, webhooks.delete_webhook),
)

# What a client meets without having a method for it.
_OTHERS: Final = (
    route("GET", "/users/me", users.get_me, Access.TOKEN),
    route("GET", f"{_ODATA}/$metadata", packages.get_odata_metadata),
    route("GET", "/connect/authorize", sign_in.authorize, Access.PUBLIC),
    route("POST", "/connect/authorize", sign_in.authorize, Access.PUBLIC),
    route("POST", "/connect/token", sign_in.token, Access.PUBLIC),
    route("POST", "/connect/revocation", sign_in.revocation, Access.PUBLIC),
    route("GET", "/connect/endsession", sign_in.end_session, Access.PUBLIC),
    route("POST", "/connect/endsession", sign_in.end_session, Access.PUBLIC),
    route("GET", "/connect/userinfo", sign_in.userinfo, Access.PUBLIC),
    route("GET", _DISCOVERY, sign_in.discovery, Access.PUBLIC),
    route("GET", f"{_DISCOVERY}/jwks", sign_in.jwks, Access.PUBLIC),
    route("GET", f"{_BLOBS}/files/{{name}}", downloads.download, Access.PUBLIC),
    route("GET", f"{_BLOBS}/archive.zip", downloads.download_archive, Access.PUBLIC),
    route("GET", _FILE, storage.download, Access.PUBLIC),
    route("PUT", _FILE, storage.upload, Access.PUBLIC),
)

ROUTES: Final[Mapping[str, tuple[str, str]]] = MappingProxyType(
    {operation.name: (operation.method, operation.path) for operation in _CLIENT_OPERATIONS}
)
"""Operation name to method and path; where two paths fit, the one without a name in it wins."""

# In the order of matching: paths with fewer names come first.
TABLE: Final[tuple[Route, ...]] = tuple(
    sorted((*_CLIENT_OPERATIONS, *_OTHERS), key=lambda operation: operation.path.count("{"))
)
NAMES: Final = frozenset(operation.name for operation in TABLE)


def find_route(method: str, raw_path: str) -> tuple[Route, dict[str, str]] | None:
    """The operation behind a path as it was sent, with or without a slash at its end.

    A HEAD is the GET without the body.
    """
    method = "GET" if method == "HEAD" else method
    segments = raw_path.removeprefix("/").removesuffix("/").split("/")
    for operation in TABLE:
        params = operation.match(method, segments)
        if params is not None:
            return operation, params
    return None
