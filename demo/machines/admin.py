"""Instances in the admin."""

from __future__ import annotations

from django.contrib import admin

from demo.machines.models import Instance


@admin.register(Instance)
class InstanceAdmin(admin.ModelAdmin):
    """Instances."""

    list_display = ["name", "state", "uuid"]
    list_filter = ["state"]
    readonly_fields = ["uuid"]
