"""Errors of some codes have what the platform says in members of its own."""

import json
import pickle

import pytest

from itwin_async import ConflictError, ConflictingLock, LockConflictError, NewerChangesError
from itwin_async._http.error_response import parse_error
from itwin_async.errors import own_copy

LOCK = {"objectId": "0x1", "lockLevel": "exclusive", "briefcaseIds": [2, "3"], "more": 1}


def parse(code, status=409, **members):
    error = {"code": code, "message": "It conflicts.", **members}
    return parse_error(status, json.dumps({"error": error}).encode(), None)


def copies(error):
    return (error, own_copy(error), pickle.loads(pickle.dumps(error)))


@pytest.mark.parametrize("status", [400, 409, 422])
def test_a_conflict_of_locks_names_them(status):
    for error in copies(parse("ConflictWithAnotherUser", status, conflictingLocks=[LOCK])):
        assert type(error) is LockConflictError
        assert isinstance(error, ConflictError)
        assert error.conflicting_locks == (ConflictingLock("0x1", "exclusive", (2, 3)),)
        assert error.code == "ConflictWithAnotherUser"
        assert error.status == status


def test_newer_changes_name_the_objects():
    for error in copies(parse("newerChangesExist", objectIds=["0x1", "0x2"])):
        assert type(error) is NewerChangesError
        assert error.object_ids == ("0x1", "0x2")


@pytest.mark.parametrize("given", [None, "0x1", [1], {"a": 1}, 5])
def test_members_of_another_type_are_left_out(given):
    assert parse("NewerChangesExist", objectIds=given).object_ids == ()
    assert parse("ConflictWithAnotherUser", conflictingLocks=given).conflicting_locks == ()


def test_other_codes_and_failures_of_the_server_have_none():
    assert type(parse("DataConflict", objectIds=["0x1"])) is ConflictError
    assert not isinstance(parse("NewerChangesExist", status=500), NewerChangesError)
