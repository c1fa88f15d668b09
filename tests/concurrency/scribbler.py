"""A process that writes in every way: `python -m tests.concurrency.scribbler DATABASE SEED ROUNDS`."""

from __future__ import annotations

import random
import sys
import time


def scribble(seed: int, rounds: int) -> int:
    """Write at random; returns how many rows were changed in transactions that were committed."""
    from django.db import OperationalError, connection, transaction

    from tests.app.models import Folder, Item

    chance, changed, number = random.Random(seed), 0, 0

    class RolledBack(Exception):
        """Nothing of it happened."""

    def some() -> list[int]:
        keys = list(Item.objects.values_list("pk", flat=True))
        return sorted(chance.sample(keys, min(len(keys), chance.choice([1, 2, 3, 5]))))

    def one() -> int:
        nonlocal number
        number += 1
        text = f"{seed}-{number}"
        kind = chance.randrange(9)
        if kind == 0:
            Item.objects.create(text=text)
            return 1
        if kind == 1:
            return len(Item.objects.bulk_create([Item(text=text) for _ in range(chance.randint(1, 4))]))
        if kind == 2:
            item = Item.objects.filter(pk__in=some()).first()
            if item is None:
                return 0
            item.text = text
            item.save()
            return 1
        if kind == 3:
            return Item.objects.filter(pk__in=some()).update(text=text)
        if kind == 4:
            folder = Folder.objects.create(name=text)
            made = [Item.objects.create(text=text, folder=folder) for _ in range(2)]
            if chance.random() < 0.7:
                folder.delete()
                return 4
            return len(made)
        keys = some()
        if not keys:
            return 0
        if kind == 5:
            with connection.cursor() as cursor:
                cursor.execute("UPDATE app_item SET count = count + 1 WHERE id = %s", [keys[0]])
                return int(cursor.rowcount)
        if kind == 6 and len(keys) > 1:
            return Item.objects.filter(pk=keys[0]).delete()[0]
        if kind == 7:
            try:
                with transaction.atomic():
                    Item.objects.filter(pk__in=keys).update(text="never")
                    raise RolledBack
            except RolledBack:
                return 0
        return Item.objects.filter(pk__in=keys).update(notes=text)

    while changed < rounds:
        try:
            with transaction.atomic():
                if connection.vendor == "sqlite":
                    connection.cursor().execute("UPDATE concord_log SET via = NULL")  # as a writer, at once
                made = sum(one() for _ in range(chance.choice([1, 1, 1, 2, 4])))
                if chance.random() < 0.15:
                    time.sleep(chance.random() * 0.05)  # a long transaction: others pass it
                if chance.random() < 0.1:
                    raise RolledBack
            changed += made
        except (RolledBack, OperationalError):
            continue  # a deadlock is another's turn
    return changed


if __name__ == "__main__":
    from tests.concurrency.worker import setup

    setup(sys.argv[1])
    print(scribble(int(sys.argv[2]), int(sys.argv[3])))
