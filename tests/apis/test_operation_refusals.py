"""Each documented refusal of the platform is an error with its code."""

from typing import Any

import pytest
from known import ACCOUNT, ENTITIES, IMODEL, ITWIN, UNKNOWN, first

from itwin_async import (
    ConflictError,
    InvalidRequestError,
    NotFoundError,
)
from itwin_async.emulator import Status

REFUSED = {
    "ExtensionsNotFound of a list": (
        lambda i: first(i.extensions.list_extensions(itwin_id=UNKNOWN)),
        (404, "ExtensionsNotFound", "iTwinId"),
    ),
    "InvalidExtensionsRequest of a list": (
        lambda i: first(i.extensions.list_extensions(itwin_id="x")),
        (422, "InvalidExtensionsRequest", None),
    ),
    "iTwinNotFound of create": (
        lambda i: i.extensions.create_extension("n", UNKNOWN),
        (404, "iTwinNotFound", "iTwinId"),
    ),
    "ExtensionExists": (
        lambda i: create_twice(i),
        (409, "ExtensionExists", None),
    ),
    "InvalidExtensionsRequest of create": (
        lambda i: i.extensions.create_extension("n", ITWIN),
        (422, "InvalidExtensionsRequest", None),
    ),
    "ExtensionNotFound of delete": (
        lambda i: i.extensions.delete_extension(UNKNOWN),
        (404, "ExtensionNotFound", "extensionId"),
    ),
    "InvalidExtensionsRequest of delete": (
        lambda i: i.extensions.delete_extension("x"),
        (422, "InvalidExtensionsRequest", None),
    ),
    "ExtensionsNotFound of a wait": (
        lambda i: i.extensions.wait_until_ready(UNKNOWN, "1.0.0"),
        (404, "ExtensionsNotFound", "extensionId"),
    ),
    "ExtensionsNotFound of a download": (
        lambda i: i.extensions.download_version(UNKNOWN, "1.0.0", "unused"),
        (404, "ExtensionsNotFound", "extensionId"),
    ),
    "ExtensionsNotFound of versions": (
        lambda i: first(i.extensions.list_versions(UNKNOWN)),
        (404, "ExtensionsNotFound", "extensionId"),
    ),
    "ExtensionsNotFound of a version": (
        lambda i: i.extensions.get_version(UNKNOWN, "1.0.0"),
        (404, "ExtensionsNotFound", "extensionId"),
    ),
    "InvalidExtensionsRequest of a version": (
        lambda i: i.extensions.get_version("x", "1.0.0"),
        (422, "InvalidExtensionsRequest", None),
    ),
    "VersionNotFound": (
        lambda i: missing_version(i),
        (404, "VersionNotFound", None),
    ),
    "iTwinNotFound of iModels": (
        lambda i: first(i.imodels.list_imodels(UNKNOWN)),
        (404, "iTwinNotFound", None),
    ),
    "InvalidiModelsRequest of iModels": (
        lambda i: first(i.imodels.list_imodels(ITWIN, state="odd")),
        (422, "InvalidiModelsRequest", None),
    ),
    "iModelNotFound": (
        lambda i: i.imodels.get_imodel(UNKNOWN),
        (404, "iModelNotFound", None),
    ),
    "iModelNotFound of changesets": (
        lambda i: first(i.imodels.list_changesets(UNKNOWN)),
        (404, "iModelNotFound", None),
    ),
    "ChangesetNotFound": (
        lambda i: i.imodels.get_changeset(IMODEL, 999),
        (404, "ChangesetNotFound", None),
    ),
    "iModelNotFound of extended data": (
        lambda i: first(i.imodels.list_extended_data(UNKNOWN)),
        (404, "iModelNotFound", None),
    ),
    "iModelNotFound of an entry": (
        lambda i: i.imodels.get_extended_data(UNKNOWN, 1),
        (404, "iModelNotFound", None),
    ),
    "ChangesetNotFound of an entry": (
        lambda i: i.imodels.get_extended_data(IMODEL, "f" * 40),
        (404, "ChangesetNotFound", None),
    ),
    "iModelNotFound of writing": (
        lambda i: i.imodels.create_extended_data(UNKNOWN, 1, {}),
        (404, "iModelNotFound", None),
    ),
    "ChangesetNotFound of writing": (
        lambda i: i.imodels.create_extended_data(IMODEL, 999, {}),
        (404, "ChangesetNotFound", None),
    ),
    "DataConflict": (
        lambda i: i.imodels.create_extended_data(IMODEL, 1, {}),
        (409, "DataConflict", None),
    ),
    "PackageNotFound of execute": (
        lambda i: i.packages.execute_package(ITWIN, "NONE"),
        (404, "PackageNotFound", None),
    ),
    "PackageNotFound of execute for an unknown iTwin": (
        lambda i: i.packages.execute_package(UNKNOWN, "SQL_CUSTOMERS_TABLE"),
        (404, "PackageNotFound", None),
    ),
    "InvalidPackageRequest of execute": (
        lambda i: i.packages.execute_package("x", "SQL_CUSTOMERS_TABLE"),
        (422, "InvalidPackageRequest", None),
    ),
    "SchemaNotFound": (
        lambda i: first(i.packages.list_entity_sets(ITWIN, "SQL_CUSTOMERS_TABLE")),
        (404, "SchemaNotFound", None),
    ),
    "SchemaNotFound for an unknown iTwin": (
        lambda i: first(i.packages.list_entity_sets(UNKNOWN, "SAP_WORK_ORDERS")),
        (404, "SchemaNotFound", None),
    ),
    "InvalidSchemaRequest": (
        lambda i: first(i.packages.list_entity_sets("x", "SAP_WORK_ORDERS")),
        (422, "InvalidSchemaRequest", None),
    ),
    "SchemaNotFound of rows": (
        lambda i: first(i.packages.list_entities(ITWIN, "SAP_WORK_ORDERS", "None")),
        (404, "SchemaNotFound", None),
    ),
    "InvalidSchemaRequest of rows": (
        lambda i: first(
            i.packages.list_entities(ITWIN, "SAP_WORK_ORDERS", ENTITIES, filter="what")
        ),
        (422, "InvalidSchemaRequest", None),
    ),
    "InvalidiTwinsRequest of a filter": (
        lambda i: first(i.itwins.list_itwins(filter="what")),
        (422, "InvalidiTwinsRequest", None),
    ),
    "PackageNotFound": (
        lambda i: i.packages.get_package("NONE"),
        (404, "PackageNotFound", None),
    ),
    "InvalidPackageRequest": (
        lambda i: i.packages.get_package("N" * 151),
        (422, "InvalidPackageRequest", None),
    ),
    "InvalidiTwinsRequest": (
        lambda i: first(i.itwins.list_itwins(sub_class="Odd")),
        (422, "InvalidiTwinsRequest", None),
    ),
    "WebhookNotFound": (
        lambda i: i.webhooks.get_webhook(UNKNOWN),
        (404, "WebhookNotFound", None),
    ),
    "WebhookNotFound of an update": (
        lambda i: i.webhooks.update_webhook(UNKNOWN, active=True),
        (404, "WebhookNotFound", None),
    ),
    "WebhookNotFound of delete": (
        lambda i: i.webhooks.delete_webhook(UNKNOWN),
        (404, "WebhookNotFound", None),
    ),
    "InvalidCreateWebhookRequest": (
        lambda i: i.webhooks.create_webhook("https://a.example", "iTwin", ["a"], scope_id="x"),
        (422, "InvalidCreateWebhookRequest", None),
    ),
    "iTwinNotFound of an account": (
        lambda i: i.itwins.get_account(UNKNOWN),
        (404, "iTwinNotFound", None),
    ),
}


CLASSES = {404: NotFoundError, 409: ConflictError, 422: InvalidRequestError}


def in_itself():
    data: dict[str, Any] = {}
    data["a"] = data
    return data


async def create_twice(itwin):
    await itwin.extensions.create_extension("same", ACCOUNT)
    await itwin.extensions.create_extension("same", ACCOUNT)


async def missing_version(itwin):
    extension = await first(itwin.extensions.list_extensions())
    await itwin.extensions.get_version(extension.id, "99.0.0")


@pytest.mark.parametrize(("use", "expected"), REFUSED.values(), ids=REFUSED)
async def test_a_documented_refusal_is_told_with_its_code(itwin, use, expected):
    status, code, _target = expected
    with pytest.raises(CLASSES[status], match=f"^{status} {code}: ") as caught:
        await use(itwin)
    error = caught.value
    assert (error.status, error.code, error.target) == expected
    assert error.request_id
    if status == 422:
        assert error.details[0].message


async def test_a_changeset_without_extended_data_is_told(itwin, emulator):
    index = emulator.push_changeset(IMODEL)
    with pytest.raises(NotFoundError, match="ChangesetExtendedDataNotFound"):
        await itwin.imodels.get_extended_data(IMODEL, index)


@pytest.mark.parametrize(
    ("code", "message"),
    [("InvalidValue", "'data' is not valid."), ("MissingRequiredProperty", "'data' is missing.")],
)
async def test_what_the_platform_says_of_written_data_is_told(emulator, itwin, code, message):
    detail = {"code": code, "message": message, "target": "data"}
    error = {"code": "InvalidiModelsRequest", "message": "Cannot create.", "details": [detail]}
    emulator.faults.add("create_extended_data", Status(422, body={"error": error}))
    with pytest.raises(InvalidRequestError, match="422 InvalidiModelsRequest") as caught:
        await itwin.imodels.create_extended_data(IMODEL, 1, {})
    (detail,) = caught.value.details
    assert (detail.code, detail.target) == (code, "data")
