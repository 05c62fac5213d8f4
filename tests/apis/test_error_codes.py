"""Each code of the iModels API becomes the error of its status, with the code as it is."""

import pytest
from known import IMODEL

from itwin_async import (
    ConflictError,
    ForbiddenError,
    InvalidRequestError,
    LockConflictError,
    NewerChangesError,
    NotFoundError,
    ResponseError,
)
from itwin_async.emulator import Status

CODES = {
    NotFoundError: (404, [
        "iModelNotFound", "iTwinNotFound", "ChangesetNotFound", "ChangesetExtendedDataNotFound",
        "BaselineFileNotFound", "BriefcaseNotFound", "ChangesetGroupNotFound",
        "CheckpointNotFound", "FileNotFound", "LockNotFound", "NamedVersionNotFound",
        "UserNotFound",
    ]),
    ConflictError: (409, [
        "AnotherUserPushing", "CannotAcquire", "ChangesetExists", "DataConflict", "iModelExists",
        "LockOwnedByAnotherBriefcase", "MaximumNumberOfBriefcasesPerUser",
        "MaximumNumberOfBriefcasesPerUserPerMinute", "NamedVersionExists",
        "NamedVersionOnChangesetExists",
    ]),
    LockConflictError: (409, ["ConflictWithAnotherUser"]),
    NewerChangesError: (409, ["NewerChangesExist"]),
    ForbiddenError: (403, ["InsufficientPermissions", "ResourceQuotaExceeded"]),
    InvalidRequestError: (422, [
        "InvalidiModelsRequest", "InvalidChange", "InvalidHeaderValue", "InvalidRequestBody",
        "InvalidThumbnailFormat", "InvalidValue", "MissingRequestBody", "MissingRequiredHeader",
        "MissingRequiredParameter", "MissingRequiredProperty",
        "MutuallyExclusiveParametersProvided", "MutuallyExclusivePropertiesProvided",
    ]),
    ResponseError: (413, ["RequestTooLarge"]),
}  # fmt: skip
ROWS = [
    (kind, status, code) for kind, (status, codes) in CODES.items() for code in codes
]  # the statuses are those of the emulator where no page says them


@pytest.mark.parametrize(("kind", "status", "code"), ROWS, ids=[row[2] for row in ROWS])
async def test_a_code_is_an_error_of_its_kind(emulator, itwin, kind, status, code):
    error = {"code": code, "message": "No.", "details": [{"code": "InvalidValue", "target": "x"}]}
    emulator.faults.add("get_imodel", Status(status, body={"error": error}))
    with pytest.raises(ResponseError) as caught:
        await itwin.imodels.get_imodel(IMODEL)
    assert type(caught.value) is kind
    assert (caught.value.code, caught.value.status) == (code, status)
    assert caught.value.details[0].target == "x"
    assert emulator.count("get_imodel") == 1
