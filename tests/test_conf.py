"""Settings: one dictionary, read late, and every key of it checked."""

from __future__ import annotations

from typing import Any

import pytest
from django.conf import settings as django_settings
from django.test import override_settings

from drf_concord.conf import Settings, settings

KEYS = [name for name in vars(Settings) if name.isupper()]


@pytest.mark.parametrize("name", KEYS)
def test_every_key_can_be_overridden_at_any_time(name: str) -> None:
    default = vars(Settings)[name]
    value = object()
    with override_settings(CONCORD={name: value}):
        assert getattr(settings, name) is value
        for other in KEYS:
            if other != name:
                assert getattr(settings, other) == vars(Settings)[other]
    with override_settings(CONCORD={}):
        assert getattr(settings, name) == default


@pytest.mark.parametrize("name", KEYS)
def test_every_key_has_a_type_and_a_meaning(name: str) -> None:
    assert name in Settings.__annotations__


@pytest.mark.parametrize("given", [None, {}])
def test_a_project_need_not_set_anything(given: Any) -> None:
    with override_settings(CONCORD=given):
        assert settings.LOCK_TTL == 30
    with override_settings(CONCORD={}):  # named here, so that its return is told as well
        del django_settings.CONCORD
        assert settings.LOCK_TTL == 30


def test_what_is_no_key_is_an_error() -> None:
    with pytest.raises(AttributeError):
        settings.LOCK_TTTL  # noqa: B018
