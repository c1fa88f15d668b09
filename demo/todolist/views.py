"""Lists and tasks over HTTP."""

from __future__ import annotations

from typing import Any

from django.db.models import QuerySet
from rest_framework.exceptions import ValidationError
from rest_framework.filters import BaseFilterBackend
from rest_framework.request import Request
from rest_framework.views import APIView

from demo.todolist.models import List, Task
from demo.todolist.serializers import ListSerializer, TaskSerializer
from drf_concord.live import RealtimeMixin
from drf_concord.rest import viewsets

__all__ = ["ListViewSet", "TaskViewSet"]


class OfList(BaseFilterBackend):
    """`?list=14`: the tasks of one list."""

    def filter_queryset(self, request: Request, queryset: QuerySet[Any], view: APIView) -> QuerySet[Any]:
        """Keep the tasks of the list that the query names, if it names one."""
        value = request.query_params.get("list")
        if not value:
            return queryset
        try:
            return queryset.filter(list_id=value)
        except ValueError as error:
            raise ValidationError({"list": ["Must be the id of a list."]}) from error


class ListViewSet(RealtimeMixin, viewsets.ModelViewSet):
    """To-do lists, each with its tasks."""

    queryset = List.objects.prefetch_related("tasks")
    serializer_class = ListSerializer
    conflict_actor = True


class TaskViewSet(RealtimeMixin, viewsets.ModelViewSet):
    """Tasks; `?list=14` shows those of one list."""

    queryset = Task.objects.all()
    serializer_class = TaskSerializer
    filter_backends = [OfList]
    conflict_actor = True  # everybody here knows everybody
    group_by_fields = ["pk", "list_id"]
