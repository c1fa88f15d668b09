"""The table of documents."""

from __future__ import annotations

from django.db import migrations, models

import drf_concord.fields


class Migration(migrations.Migration):
    initial = True

    dependencies = []

    operations = [
        migrations.CreateModel(
            name="Document",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("version", drf_concord.fields.VersionField(verbose_name="version")),
                ("text", models.TextField()),
            ],
            options={
                "ordering": ["id"],
            },
        ),
    ]
