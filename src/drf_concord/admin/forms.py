"""Forms and formsets that carry the tags of the objects they show, and refuse what was changed meanwhile."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from django import forms
from django.core.exceptions import ValidationError
from django.forms.formsets import DELETION_FIELD_NAME
from django.utils.functional import cached_property
from django.utils.html import format_html

from .. import rows
from ..fields import version_field
from ..protocol.errors import VersionMismatch
from ..protocol.etags import encode_version

if TYPE_CHECKING:
    # For the type checker the mixins stand on what they are mixed into.
    _Form = forms.ModelForm[Any]
    _FormSet = forms.BaseModelFormSet[Any, Any]
else:
    _Form = _FormSet = object

__all__ = ["TAG", "TAGS", "Stale", "based_form", "based_formset", "tag_of"]

TAG = "concord_tag"
"""The hidden field of a form."""
TAGS = "concord_tags"
"""The hidden field of a formset's management form: the tags of its objects, in their order."""


@dataclass(frozen=True, slots=True)
class Stale:
    """Why a form is refused, and the tag of the object as it is now."""

    text: str
    tag: str


def tag_of(obj: Any) -> str:
    """Return the write half of an object's tag, from the version it was read with."""
    field = version_field(type(obj))
    return "" if field is None else encode_version(getattr(obj, field.attname))


def based_form(form: type[Any], check: Any) -> type[Any]:
    """Return a form class that carries a tag; ``check(object, tag, deleting)`` tells whether it is stale."""
    return type(form.__name__, (_BasedForm, form), {"concord_check": staticmethod(check)})


def based_formset(formset: type[Any], check: Any) -> type[Any]:
    """Return a formset class that carries the tags of its objects."""
    return type(formset.__name__, (_BasedFormSet, formset), {"concord_check": staticmethod(check)})


class _BasedForm(_Form):
    concord_check: Any
    data: Any

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields[TAG] = forms.CharField(
            required=False, widget=forms.HiddenInput, initial=tag_of(self.instance)
        )

    def full_clean(self) -> None:
        # before the instance takes the values of the form
        name = self.add_prefix(TAG)
        stale = self.concord_check(self.instance, self.data.get(name, ""), False) if self.is_bound else None
        super().full_clean()
        if stale is not None:
            self.add_error(None, _error(stale))
            # what was typed stays, and saving it once more is on purpose
            self.data = self.data.copy()
            self.data[name] = stale.tag


class _BasedFormSet(_FormSet):
    concord_check: Any
    data: Any
    _non_form_errors: Any

    def add_fields(self, form: Any, index: int | None) -> None:
        if index is not None and index < self.initial_form_count():
            for field in form.fields.values():
                # else a row that only others changed would look as if this user had changed it back
                field.show_hidden_initial = not isinstance(field, forms.FileField)
        super().add_fields(form, index)

    @cached_property
    def management_form(self) -> Any:
        form = super().management_form
        known = "" if self.is_bound else " ".join(map(tag_of, self.get_queryset()))
        form.fields[TAGS] = forms.CharField(required=False, widget=forms.HiddenInput, initial=known)
        return form

    def full_clean(self) -> None:
        stale = self._stale() if self.is_bound else []
        super().full_clean()
        for form, found, deleting in stale:
            if deleting:  # the errors of a form that is to be deleted do not count
                text = format_html("{}: {}", str(form.instance), found.text)
                self._non_form_errors.append(text)
            else:
                form.add_error(None, _error(found))

    def _stale(self) -> list[tuple[Any, Stale, bool]]:
        name = self.management_form.add_prefix(TAGS)
        # as many as there are forms, whatever was sent
        tags = dict(enumerate(self.data.get(name, "").split()))
        # one that was deleted meanwhile is an error of the form already
        shown = [(i, form) for i, form in enumerate(self.initial_forms) if not form.instance._state.adding]
        changed = [(i, form) for i, form in shown if form.has_changed()]
        found = []
        # rows are locked in one order, whatever that of the page is
        for i, form in sorted(
            changed, key=lambda each: rows.key(type(each[1].instance), each[1].instance.pk)
        ):
            deleting = DELETION_FIELD_NAME in form.fields and bool(form[DELETION_FIELD_NAME].data)
            stale = self.concord_check(form.instance, tags.get(i, ""), deleting)
            if stale is not None:
                found.append((form, stale, deleting))
                tags[i] = stale.tag
        if found:
            self.management_form.data = self.data.copy()
            self.management_form.data[name] = " ".join(
                tags.get(i, "-") for i in range(self.initial_form_count())
            )
        return found


def _error(stale: Stale) -> ValidationError:
    return ValidationError(stale.text, code=VersionMismatch.code)
