"""Lists and tasks in the admin."""

from __future__ import annotations

from django.contrib import admin

from demo.todolist.models import List, Task


@admin.register(List)
class ListAdmin(admin.ModelAdmin):
    """To-do lists."""

    list_display = ["name"]


@admin.register(Task)
class TaskAdmin(admin.ModelAdmin):
    """Tasks."""

    list_display = ["text", "list", "done"]
    list_filter = ["list", "done"]
    search_fields = ["text", "notes"]
