"""Instances in the admin."""

from __future__ import annotations

from django.contrib import admin

from demo.machines.models import Instance
from drf_concord.admin import GuardedAdminMixin


@admin.register(Instance)
class InstanceAdmin(GuardedAdminMixin, admin.ModelAdmin):
    """Instances; what operators locked is not deleted here either."""

    list_display = ["name", "state", "uuid"]
    list_filter = ["state"]
    readonly_fields = ["uuid"]
