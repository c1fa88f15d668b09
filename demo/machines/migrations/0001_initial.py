"""The table of instances."""

from __future__ import annotations

import uuid

from django.db import migrations, models

import drf_concord.fields


class Migration(migrations.Migration):
    initial = True

    dependencies = []

    operations = [
        migrations.CreateModel(
            name="Instance",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("version", drf_concord.fields.VersionField(verbose_name="version")),
                ("uuid", models.UUIDField(default=uuid.uuid4, editable=False, unique=True)),
                ("name", models.CharField(max_length=64)),
                ("state", models.CharField(default="active", max_length=16)),
            ],
            options={
                "ordering": ["id"],
            },
        ),
    ]
