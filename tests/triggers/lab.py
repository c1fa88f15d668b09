"""A database of its own, and an app in it whose models and migrations a test writes and changes."""

from __future__ import annotations

import copy
import importlib
import re
import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from django.apps import apps
from django.core.management import call_command
from django.db import connections
from django.test import override_settings

from drf_concord import triggers

__all__ = ["ALIAS", "BOOKS", "Lab", "laboratory"]

ALIAS = "lab"
urlpatterns: list[Any] = []
HEAD = """
from __future__ import annotations

from django.db import models

from drf_concord.models import Lockable, Versioned
"""
BOOKS = """
class Shelf(Versioned):
    name = models.CharField(max_length=9, default="")

class Book(Versioned):
    touches = ["shelf"]
    title = models.CharField(max_length=9, default="")
    shelf = models.ForeignKey(Shelf, null=True, related_name="books", on_delete=models.CASCADE)
"""
MIGRATION = """
from __future__ import annotations

import django.db.models.deletion
from django.db import migrations, models

import drf_concord.fields
from drf_concord.fields import VersionField


def ID():
    return models.BigAutoField(primary_key=True)


{code}


class Migration(migrations.Migration):
    initial = {initial}
    atomic = {atomic}
    dependencies = {dependencies}
    operations = [
{operations}
    ]
"""


class ToLab:
    """A database router: everything is in the laboratory."""

    def db_for_read(self, model: Any, **hints: Any) -> str:
        return ALIAS

    def db_for_write(self, model: Any, **hints: Any) -> str:
        return ALIAS

    def allow_relation(self, one: Any, other: Any, **hints: Any) -> bool:
        return True

    def allow_migrate(self, db: str, app_label: str, **hints: Any) -> bool:
        return db == ALIAS


class Lab:
    """One database and one app, `shop`, which can be written anew at any time."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "shop"
        self.steps: list[str] = []
        self.loaded = False
        (self.folder / "migrations").mkdir(parents=True)
        (self.folder / "__init__.py").touch()
        (self.folder / "migrations" / "__init__.py").touch()
        self.write("")

    def write(self, models: str) -> Any:
        """Replace the app's models by these, and return their module."""
        (self.folder / "models.py").write_text(HEAD + textwrap.dedent(models))
        self.forget()
        apps.set_installed_apps(["drf_concord", "shop"])
        self.loaded = True
        return sys.modules["shop.models"]

    def forget(self) -> None:
        """Unload the app, as a new process would start without it."""
        if self.loaded:
            apps.unset_installed_apps()
        self.loaded = False
        for name in [n for n in sys.modules if n == "shop" or n.startswith("shop.")]:
            del sys.modules[name]
        importlib.invalidate_caches()
        apps.all_models.pop("shop", None)
        apps.clear_cache()

    def step(self, operations: str, code: str = "", *, atomic: bool = True) -> str:
        """Write the next migration; returns its name."""
        name = f"{len(self.steps) + 1:04}_step"
        self.rewrite(name, operations, code, atomic=atomic)
        self.steps.append(name)
        return name

    def rewrite(self, name: str, operations: str, code: str = "", *, atomic: bool = True) -> None:
        """Write a migration, which nobody may have run to its end."""
        text = MIGRATION.format(
            initial=name.startswith("0001"),
            atomic=atomic,
            code=textwrap.dedent(code),
            dependencies=[("shop", before) for before in self.steps if before < name][-1:],
            operations=textwrap.indent(textwrap.dedent(operations).strip(), " " * 8),
        )
        (self.folder / "migrations" / f"{name}.py").write_text(text)

    def generate(self) -> None:
        """Let Django write the first migration for the models there are."""
        call_command("makemigrations", "shop", verbosity=0, skip_checks=True)
        self.steps.append("0001_initial")

    def migrate(self, *target: str, **options: Any) -> None:
        """Run the real command."""
        for name in [n for n in sys.modules if n.startswith("shop.migrations.")]:
            del sys.modules[name]
        importlib.invalidate_caches()
        call_command("migrate", *target, database=ALIAS, verbosity=0, **options)

    def sql(self, statement: str, params: list[Any] | None = None) -> list[tuple[Any, ...]]:
        """Run one statement as any program would."""
        with connections[ALIAS].cursor() as cursor:
            cursor.execute(statement, params)
            return cursor.fetchall() if cursor.description else []

    @property
    def vendor(self) -> Any:
        """The module that knows this database's triggers."""
        return triggers.VENDORS[connections[ALIAS].vendor]

    def installed(self) -> set[str]:
        """Return the names of the triggers and functions of ours that there are."""
        state = self.vendor.read(connections[ALIAS])
        names = [*state.triggers, *getattr(state, "functions", ())]
        return {name if isinstance(name, str) else name[1] for name in names}

    def wanted(self) -> set[str]:
        """Return the names that there should be."""
        named = re.compile(r"CREATE (?:OR REPLACE )?(?:TRIGGER|FUNCTION) (?:\S+\.)?(\w+)")
        return {m[1] for statement in triggers.sql(ALIAS) for m in named.finditer(statement)}

    def epoch(self) -> str:
        """Return the epoch."""
        return self.sql("SELECT epoch FROM concord_log")[0][0]


@contextmanager
def laboratory(folder: Path, database: str, **server: str) -> Iterator[Lab]:
    """Set up an empty app in an empty database; both are gone afterwards.

    Args:
        folder: where the app is written.
        database: the name of a database, as Django's settings have it.
        server: what else is not as in the database of the tests, such as HOST.
    """
    settings = copy.deepcopy(connections["default"].settings_dict)
    connections.databases[ALIAS] = settings | {"NAME": database} | server
    routed = override_settings(DATABASE_ROUTERS=[ToLab()], CONCORD={}, ROOT_URLCONF=__name__)
    routed.enable()
    sys.path.insert(0, str(folder))
    # what is compiled is known by its second and its length, and a model changes more often than that
    written, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    apps.set_installed_apps(["drf_concord"])
    lab = Lab(folder)
    try:
        lab.migrate()
        yield lab
    finally:
        lab.forget()
        apps.unset_installed_apps()
        sys.path.remove(str(folder))
        sys.dont_write_bytecode = written
        routed.disable()
        connections[ALIAS].close()
        del connections[ALIAS], connections.databases[ALIAS]
