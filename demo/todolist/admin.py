"""Lists and tasks in the admin."""

from __future__ import annotations

from django.contrib import admin

from demo.todolist.models import List, Task
from drf_concord.admin import GuardedAdminMixin


@admin.register(List)
class ListAdmin(GuardedAdminMixin, admin.ModelAdmin):
    """To-do lists."""

    list_display = ["name"]


@admin.register(Task)
class TaskAdmin(GuardedAdminMixin, admin.ModelAdmin):
    """Tasks; the second of two open pages is refused."""

    list_display = ["text", "list", "done"]
    list_editable = ["done"]
    list_filter = ["list", "done"]
    search_fields = ["text", "notes"]
