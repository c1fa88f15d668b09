"""Addresses of the package itself: ``path("", include("drf_concord.urls"))``."""

from __future__ import annotations

from django.urls import re_path

from .rest.locks import LockList

__all__ = ["urlpatterns"]

app_name = "concord"
urlpatterns = [re_path(r"^locks/?$", LockList.as_view(), name="locks")]
