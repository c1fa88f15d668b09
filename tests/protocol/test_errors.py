from __future__ import annotations

import copy
import pickle

import pytest

from drf_concord.protocol import errors
from drf_concord.protocol.errors import ConcordError, Conflict, ObjectLocked, PreconditionFailed

CLASSES = [getattr(errors, name) for name in errors.__all__]
CODES = {
    "ConcordError": ("error", 500),
    "MalformedPrecondition": ("malformed_precondition", 400),
    "InvalidLock": ("invalid_lock", 400),
    "TooManyObjects": ("too_large", 400),
    "LockForbidden": ("lock_forbidden", 403),
    "StreamUnavailable": ("stream_unavailable", 406),
    "Conflict": ("conflict", 409),
    "ObjectLocked": ("object_locked", 409),
    "AlreadyLocked": ("object_already_locked", 409),
    "NotLocked": ("object_not_locked", 409),
    "PositionLost": ("position_lost", 410),
    "PreconditionFailed": ("precondition_failed", 412),
    "VersionMismatch": ("version_mismatch", 412),
    "AlreadyExists": ("already_exists", 412),
    "LockLost": ("lock_lost", 412),
    "IdempotencyMismatch": ("idempotency_mismatch", 422),
    "PreconditionRequired": ("precondition_required", 428),
    "LockLimit": ("lock_limit", 429),
    "TooManyStreams": ("too_many_streams", 429),
    "NotRecorded": ("not_recorded", 501),
    "Busy": ("busy", 503),
}


def test_codes_and_statuses_are_those_of_the_wire() -> None:
    assert {cls.__name__: (cls.code, cls.status) for cls in CLASSES} == CODES


def test_the_list_in_the_module_docstring_is_the_tree() -> None:
    parents = {}
    above: list[str] = []
    for line in (errors.__doc__ or "").splitlines():
        indent, star, rest = line.partition("* ")
        if star:
            name = rest.split("`")[1]
            above = [*above[: len(indent) // 4], name]
            parents[name] = above[-2] if len(above) > 1 else "Exception"
            if status := rest.rpartition("` ")[2]:
                assert status in (rest, str(CODES[name][1]))

    assert parents == {cls.__name__: cls.__base__.__name__ for cls in CLASSES}


@pytest.mark.parametrize("cls", CLASSES)
def test_the_docstring_is_the_message(cls: type[ConcordError]) -> None:
    error = cls()

    assert error.detail == str(error)
    assert error.detail.endswith(".")
    assert " ".join((cls.__doc__ or "").split()).startswith(error.detail)
    assert error.body() == {"detail": error.detail, "code": cls.code}
    assert error.retry_after is None


def test_only_the_first_sentence_is_the_message() -> None:
    assert errors.PositionLost().detail == (
        "The changes since this position are not known any more; drop your copy and read it all again."
    )


def test_a_dot_within_a_word_ends_no_sentence() -> None:
    class Strange(ConcordError):
        """Version 1.5 of
        the file is gone. More."""

    assert Strange().detail == "Version 1.5 of the file is gone."


def test_a_subclass_without_a_docstring_says_its_code() -> None:
    class Undocumented(Conflict):
        code = "undocumented"

    assert Undocumented().detail == "undocumented"


def test_members_are_in_the_body() -> None:
    error = ObjectLocked("Ada is at it.", retry_after=2.5, mine=False, holder="ada")

    assert error.body() == {
        "detail": "Ada is at it.",
        "code": "object_locked",
        "mine": False,
        "holder": "ada",
    }
    assert error.retry_after == 2.5


def test_an_empty_message_is_a_message() -> None:
    assert ObjectLocked("").detail == ""


def _pickled(error: ConcordError) -> ConcordError:
    return pickle.loads(pickle.dumps(error))  # noqa: S301


@pytest.mark.parametrize("cls", CLASSES)
def test_errors_travel_between_processes(cls: type[ConcordError]) -> None:
    error = cls("Said.", retry_after=1.5, current_etag='"5-a"')
    for twin in (_pickled(error), copy.copy(error), copy.deepcopy(error)):
        assert type(twin) is cls
        assert (twin.body(), twin.retry_after) == (error.body(), 1.5)
        assert str(twin) == "Said."


def test_families_are_caught_together() -> None:
    with pytest.raises(PreconditionFailed):
        raise errors.LockLost
    with pytest.raises(Conflict):
        raise errors.AlreadyLocked
