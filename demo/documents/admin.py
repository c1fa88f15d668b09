"""Documents in the admin."""

from __future__ import annotations

from django.contrib import admin

from demo.documents.models import Document


@admin.register(Document)
class DocumentAdmin(admin.ModelAdmin):
    """Documents."""

    search_fields = ["text"]
