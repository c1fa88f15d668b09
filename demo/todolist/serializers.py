"""Lists and tasks as the API shows them."""

from __future__ import annotations

from rest_framework import serializers

from demo.todolist.models import List, Task

__all__ = ["ListSerializer", "TaskSerializer"]


class TaskSerializer(serializers.ModelSerializer):
    """A task."""

    class Meta:
        model = Task
        fields = ["id", "text", "done", "notes", "list"]


class ListSerializer(serializers.ModelSerializer):
    """A list with its tasks, which are written at their own address."""

    tasks = TaskSerializer(many=True, read_only=True)

    class Meta:
        model = List
        fields = ["id", "name", "tasks"]
