"""Two open pages of one object: the second is refused, with who changed what and the way to go on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.contrib.admin import ModelAdmin
from django.contrib.admin.utils import flatten_fieldsets, quote
from django.urls import reverse
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.utils.text import capfirst
from django.utils.translation import gettext as _

from .. import changes, locks
from ..fields import version_field
from ..protocol.errors import VersionMismatch
from ..protocol.etags import TagList, decode_version, encode_version, version_tag
from ..protocol.preconditions import Current, Preconditions
from ..rest.tags import with_version
from .forms import TAG, Stale, based_form, based_formset, tag_of

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

    from django.http import HttpRequest

    from .. import rows
    from ..protocol.errors import ConcordError

    # For the type checker the mixins stand on what they are mixed into.
    _Admin = ModelAdmin[Any]
else:
    _Admin = object

__all__ = ["Basis", "BasisMixin"]

VARIANT = "0"  # a form is no representation; only the half of the tag that guards writes counts


class Basis:
    """The state that a form says it was made from, and the one in which its object was read to be saved.

    Both have to be that of the locked row: a save writes all columns, those too that the form does not show.
    """

    def __init__(self, obj: Any, tag: str) -> None:
        self.version = decode_version(tag)
        self.read = getattr(obj, _column(type(obj)))
        self.found: Any = None
        self.using = ""

    @property
    def preconditions(self) -> Preconditions:
        """Return what the gate compares with the locked row."""
        return Preconditions(if_match=TagList((version_tag(self.read, VARIANT),)))

    def current(self, found: Any, _: int) -> Current:
        """Return the tag of the row."""
        version = getattr(found, _column(type(found)))
        return Current(tag=version_tag(version, VARIANT), write=encode_version(version), variant=VARIANT)

    def refused(self, error: ConcordError, found: Any, entry: rows.Entry) -> None:
        """Take note of the object as it is."""
        if isinstance(error, VersionMismatch):
            self.found, self.using = found, entry.using

    def compare(self, found: Any) -> None:
        """Compare what the form says with the locked row, which is as the object was read.

        Raises:
            VersionMismatch
        """
        if self.version != self.read:
            self.found, self.using = found, found._state.db
            raise VersionMismatch


class BasisMixin(_Admin):
    """Has the forms of an admin carry the tags of versioned objects; others are left as they are."""

    if TYPE_CHECKING:

        def _guard(
            self,
            request: HttpRequest,
            obj: Any,
            operation: str,
            write: Callable[[Any], None],
            asker: Any,
            basis: Basis | None = None,
        ) -> None: ...

    def get_queryset(self, request: HttpRequest) -> Any:
        """Return the objects, with the version of the state in which they are read."""
        return with_version(super().get_queryset(request))

    def get_form(self, request: HttpRequest, obj: Any = None, change: bool = False, **kwargs: Any) -> Any:
        """Return the form, which carries the tag of an object that is changed."""
        made = super().get_form(request, obj, change=change, **kwargs)
        if obj is None or not change or version_field(self.model) is None:
            return made
        return based_form(made, self._checks(request, self, lambda: self._names(request, self, obj)))

    def render_change_form(self, request: HttpRequest, context: Any, *args: Any, **kwargs: Any) -> Any:
        """Show the form with its hidden field, whatever fieldsets there are."""
        page = context["adminform"]
        if TAG in page.form.fields:
            # a new list: those of the class are for every request
            *others, (name, options) = page.fieldsets or [(None, {"fields": []})]
            page.fieldsets = [*others, (name, {**options, "fields": [*options["fields"], TAG]})]
        return super().render_change_form(request, context, *args, **kwargs)

    def get_formsets_with_inlines(self, request: HttpRequest, obj: Any = None) -> Iterator[Any]:
        """Return the formsets of the inlines, with the tags of versioned objects."""
        for formset, inline in super().get_formsets_with_inlines(request, obj):
            if obj is None or version_field(inline.model) is None:
                yield formset, inline
            else:
                yield self._with_tags(request, formset, inline, obj), inline

    def get_formset_kwargs(self, request: HttpRequest, obj: Any, inline: Any, prefix: str) -> dict[str, Any]:
        """Return what an inline's formset gets: its objects with their versions."""
        kwargs: dict[str, Any] = super().get_formset_kwargs(request, obj, inline, prefix)
        return {**kwargs, "queryset": with_version(kwargs["queryset"])}

    def get_changelist_formset(self, request: HttpRequest, **kwargs: Any) -> Any:
        """Return the formset of a list that is edited, with the tags of versioned objects."""
        made = super().get_changelist_formset(request, **kwargs)
        if version_field(self.model) is None:
            return made
        names = [str(each) for each in self.list_display]
        return based_formset(
            made, self._checks(request, self, lambda: {*names, *self._names(request, self, None)})
        )

    def changelist_view(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        """Show a list; of one that is refused each line shows the object whose form stands in it."""
        response: Any = super().changelist_view(request, *args, **kwargs)
        found: Any = (getattr(response, "context_data", None) or {}).get("cl")
        formset = getattr(found, "formset", None)
        if formset is not None and formset.is_bound and version_field(self.model) is not None:
            # the order may be another one since the page was read
            found.result_list = [form.instance for form in formset.forms]
        return response

    def _with_tags(self, request: HttpRequest, formset: Any, inline: Any, obj: Any) -> type[Any]:
        return based_formset(
            formset, self._checks(request, inline, lambda: self._names(request, inline, obj))
        )

    def _names(self, request: HttpRequest, asker: Any, obj: Any) -> Collection[str]:
        return {str(name) for name in flatten_fieldsets(asker.get_fieldsets(request, obj))}

    def _checks(self, request: HttpRequest, asker: Any, shown: Callable[[], Collection[str]]) -> Any:
        """Return what tells a form whether its object is still as it was, decided on the locked row."""

        def check(obj: Any, tag: str, deleting: bool) -> Stale | None:
            basis = Basis(obj, tag)
            operation = "destroy" if deleting else "update"
            try:
                self._guard(request, obj, operation, basis.compare, asker, basis)
            except VersionMismatch:
                if basis.found is None:
                    raise
                return Stale(self._explained(basis, shown()), tag_of(basis.found))
            return None

        return check

    def _explained(self, basis: Basis, shown: Collection[str]) -> SafeString:
        found = basis.found
        if basis.version is None:
            parts = [_("This form does not say which state of the object it shows, so nothing was saved.")]
            end = _("Compare it with what stands here, and save again.")
        else:
            parts = [_("This object was changed while this page was open, so nothing was saved.")]
            parts += _what_happened(basis, shown)
            end = _("To put what stands here in its place, save again.")
        if self.admin_site.is_registered(type(found)):
            parts.append(self._link(found))
        return format_html_join(" ", "{}", ((part,) for part in [*parts, end]))

    def _link(self, found: Any) -> SafeString:
        meta = found._meta
        name = f"admin:{meta.app_label}_{meta.model_name}_change"
        url = reverse(name, args=[quote(found.pk)], current_app=self.admin_site.name)
        text = _("See it as it is now (in a new tab)")
        return format_html('<a href="{}" target="_blank" rel="noopener">{}</a>.', url, text)


def _column(model: type[Any]) -> str:
    field = version_field(model)
    assert field is not None  # noqa: S101 (only asked of models that have one)
    return field.attname


def _what_happened(basis: Basis, shown: Collection[str]) -> list[str]:
    """Return who wrote last and which of the fields that are shown changed, as far as the log tells."""
    found, using = basis.found, basis.using
    model, version = type(found), getattr(found, _column(type(found)))
    told = []
    writer = locks.holder_name(changes.writer_of(model, found.pk, version, using=using))
    if writer is not None:
        told.append(_("Last changed by: %s.") % writer)
    columns = changes.changed_since(model, found.pk, basis.version or 0, version, using=using) or ()
    meta: Any = model._meta
    fields = [f for f in meta.concrete_fields if f.column in columns and f.name in shown]
    fields += [f for f in meta.many_to_many if f.name in columns and f.name in shown]
    if fields:
        told.append(_("What changed: %s.") % ", ".join(capfirst(str(f.verbose_name)) for f in fields))
    return told
