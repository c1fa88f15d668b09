"""The people and the records that the demo begins with."""

from __future__ import annotations

from typing import Any

from django.contrib.auth.models import Group, Permission, User
from django.core.management.color import no_style
from django.db import connection, models, transaction

from demo.documents.models import Document
from demo.machines.models import Instance
from demo.todolist.models import List, Task

__all__ = ["EDITORS", "LOGINS", "OPERATOR", "create"]

# The password of each person is the name. The plain ones have the keys 2, 3 and 4.
LOGINS = ("admin", "guido", "ada")
PEOPLE = ("admin", "mina", "tomas", "yuki", "guido", "ada")
EDITORS = ("guido", "ada")
OPERATOR = "admin"

LISTS: dict[str, list[tuple[str, bool, str]]] = {
    "Summer party": [
        ("Ask the neighbours about the long table", True, "They need it back on Sunday."),
        ("Order lemonade", False, "Two crates, the cloudy one."),
        ("Borrow the loudspeaker", False, ""),
        ("Write the invitations", False, "Ada has the addresses."),
    ],
    "Groceries": [
        ("Bread", False, "The dark one, if there is any."),
        ("Olive oil", False, ""),
        ("Coffee", True, ""),
    ],
    "Move to the new office": [
        ("Label the boxes", True, ""),
        ("Give back the old keys", False, "Four of them, one is with the caretaker."),
        ("Test the network sockets", False, ""),
    ],
}

DOCUMENTS = [
    "We meet at three, at the station.",
    "The loudspeaker lives in the cellar. Whoever takes it writes down the day.",
]

# fixed, so that commands in the documentation can be pasted
INSTANCES = [
    ("8b0c1c1e-5d5e-4c38-9f3a-6a1f0c8f2a11", "web-1", "active"),
    ("8b0c1c1e-5d5e-4c38-9f3a-6a1f0c8f2a12", "web-2", "active"),
    ("8b0c1c1e-5d5e-4c38-9f3a-6a1f0c8f2a13", "database-1", "stopped"),
]


def create() -> bool:
    """Fill an empty database and return True; one with people in it keeps what they made of it."""
    with transaction.atomic():
        if User.objects.exists():
            return False
        _people()
        _records()
        _move_sequences(User, List, Task, Document, Instance)
    return True


def _people() -> None:
    editors = Group.objects.create(name="editors")
    apps = [model._meta.app_label for model in (List, Document, Instance)]
    records = Permission.objects.filter(content_type__app_label__in=apps)
    # to see who has what, and to take it over
    locks = Permission.objects.filter(content_type__app_label="concord", codename__in=["view_lock", "break"])
    editors.permissions.set(records | locks)
    for pk, name in enumerate(PEOPLE, start=1):
        boss = name == "admin"
        extra: dict[str, Any] = {"pk": pk, "is_staff": boss, "is_superuser": boss}
        user = User.objects.create_user(name, f"{name}@example.com", name, **extra)
        if name in EDITORS:
            user.groups.add(editors)


def _records() -> None:
    for list_pk, (name, tasks) in enumerate(LISTS.items(), start=1):
        todo = List.objects.create(pk=list_pk, name=name)
        for text, done, notes in tasks:
            Task.objects.create(list=todo, text=text, done=done, notes=notes)
    for pk, text in enumerate(DOCUMENTS, start=1):
        Document.objects.create(pk=pk, text=text)
    for pk, (uuid, name, state) in enumerate(INSTANCES, start=1):
        Instance.objects.create(pk=pk, uuid=uuid, name=name, state=state)


def _move_sequences(*tables: type[models.Model]) -> None:
    # PostgreSQL does not count the keys that were chosen above
    with connection.cursor() as cursor:
        for statement in connection.ops.sequence_reset_sql(no_style(), tables):
            cursor.execute(statement)
