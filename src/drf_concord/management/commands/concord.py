"""``manage.py concord``: look after the triggers and the log."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import DEFAULT_DB_ALIAS, connections

from ... import changes, triggers

__all__ = ["Command"]


class Command(BaseCommand):
    """Look after the triggers and the log."""

    help = "Look after the triggers and the log of drf-concord."

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare ``triggers`` and ``prune``."""
        commands = parser.add_subparsers(dest="command", required=True)
        trigger = commands.add_parser("triggers", help="check, install, remove or print the triggers")
        what = trigger.add_mutually_exclusive_group()
        what.add_argument(
            "--check",
            action="store_true",
            help="say what is wrong, exit 1 if anything is (default)",
        )
        what.add_argument("--install", action="store_true", help="install what is missing or out of date")
        what.add_argument(
            "--remove", action="store_true", help="take every trigger off; writes go unseen then"
        )
        what.add_argument("--sql", action="store_true", help="print the statements")
        prune = commands.add_parser("prune", help="delete changes older than RETENTION")
        for command in (trigger, prune):
            command.add_argument(
                "--database",
                default=DEFAULT_DB_ALIAS,
                choices=tuple(connections),
                help='alias; "default" if not given',
            )

    def handle(self, *args: Any, **options: Any) -> None:
        """Run one of them."""
        using = options["database"]
        if options["command"] == "prune":
            gone = changes.prune(using)
            self.stdout.write(f"{gone} changes pruned.")
        elif options["install"]:
            unseen = triggers.install(using)
            note = (
                " Some had been missing: a new epoch began, and subscribers fetch afresh." if unseen else ""
            )
            self.stdout.write(f"The triggers are up to date.{note}")
        elif options["remove"]:
            triggers.remove(using)
            self.stdout.write("The triggers are removed. Writes that bypass the gate go unseen now.")
        elif options["sql"]:
            self.stdout.write("".join(f"{statement};\n" for statement in triggers.sql(using)))
        else:
            problems = triggers.problems(using)
            if problems:
                raise CommandError("\n".join([*problems, "Run: manage.py concord triggers --install"]))
            self.stdout.write("All triggers are in place.")
