"""The tables of lists and tasks."""

from __future__ import annotations

import django.db.models.deletion
from django.db import migrations, models

import drf_concord.fields


class Migration(migrations.Migration):
    initial = True

    dependencies = []

    operations = [
        migrations.CreateModel(
            name="List",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("version", drf_concord.fields.VersionField(verbose_name="version")),
                ("name", models.CharField(max_length=64)),
            ],
            options={
                "ordering": ["id"],
            },
        ),
        migrations.CreateModel(
            name="Task",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("version", drf_concord.fields.VersionField(verbose_name="version")),
                ("text", models.CharField(max_length=140)),
                ("done", models.BooleanField(default=False)),
                ("notes", models.TextField(blank=True, default="")),
                (
                    "list",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE, related_name="tasks", to="todolist.list"
                    ),
                ),
            ],
            options={
                "ordering": ["id"],
            },
        ),
    ]
