"""The mixin that lets a view be subscribed to."""

from __future__ import annotations

import functools
import logging
from typing import TYPE_CHECKING, Any, ClassVar

from django.apps import apps
from django.core.exceptions import FieldDoesNotExist, ImproperlyConfigured
from rest_framework.generics import GenericAPIView

from ..triggers.plan import captured_models, routed

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from django.db.models import Model

__all__ = ["Followed", "RealtimeMixin", "unrecorded"]

logger = logging.getLogger("drf_concord")


class Followed:
    """What there is to know of a view whose objects are followed: their model, and what else changes them."""

    group_by_fields: ClassVar[Sequence[str]] = ("pk",)
    """Fields by whose value a client may subscribe; ``id`` is another name for ``pk``."""
    depends_on: ClassVar[Mapping[Any, str]] = {}
    """Other models whose rows change what is shown, each with the name of its foreign key to this one."""

    @classmethod
    def get_model_class(cls) -> type[Model]:
        """Return the model.

        Raises:
            ImproperlyConfigured: neither a queryset nor a serializer names it.
        """
        # a class may have a property there, or a list
        model = getattr(getattr(cls, "queryset", None), "model", None) or _model_of_serializer(cls)
        if model is None:
            raise ImproperlyConfigured(
                f"{cls.__name__} names no model: give it a queryset. If get_queryset() computes one, a"
                " sentinel will do: queryset = Model.objects.none()"
            )
        found: type[Model] = model
        return found

    @classmethod
    def dependents(cls) -> tuple[tuple[type[Model], str], ...]:
        """Return the models of ``depends_on``, each with the column that names an object of this view.

        Raises:
            ImproperlyConfigured: the log would not tell which object a row of one of them belongs to.
        """
        view: Any = cls
        return _dependents(view)

    @classmethod
    def group_field(cls, name: str | None) -> str | None:
        """Return the field a client may group by under this name (``pk`` for ``id``), or None."""
        wanted = "pk" if name in {None, "id", "pk"} else name
        known = ["pk" if field == "id" else field for field in cls.group_by_fields]
        return wanted if wanted in known else None


class RealtimeMixin(Followed):
    """A generic view or viewset whose objects can be followed over a websocket.

    It may stand before or after the other bases. The model is that of ``queryset``, else of the serializer.
    """

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Give a view that names no queryset all objects of its serializer's model."""
        super().__init_subclass__(**kwargs)
        view: Any = cls
        own = getattr(view, "get_queryset", None) is not getattr(GenericAPIView, "get_queryset", None)
        if getattr(view, "queryset", None) is None and not own:
            model = _model_of_serializer(view)
            if model is not None:
                view.queryset = model._default_manager.all()


@functools.lru_cache(maxsize=1024)
def _dependents(view: Any) -> tuple[tuple[type[Model], str], ...]:
    found = []
    for given, name in view.depends_on.items():
        try:
            model: type[Model] = apps.get_model(given) if isinstance(given, str) else given
            field: Any = model._meta.get_field(name)
        except (LookupError, ValueError) as error:
            raise ImproperlyConfigured(f"{view.__name__}.depends_on: {given!r} is no model.") from error
        except FieldDoesNotExist as error:
            raise ImproperlyConfigured(f"{view.__name__}.depends_on: {error}.") from error
        if not _names_one_of(view.get_model_class(), field):
            label = view.get_model_class()._meta.label
            what = f"{model._meta.label}.{name} is no foreign key to the primary key of {label}"
            raise ImproperlyConfigured(f"{view.__name__}.depends_on: {what}.")
        if field not in routed(model):
            what = f"the log does not keep {name}: name it in {model._meta.label}.concord_routes"
            raise ImproperlyConfigured(f"{view.__name__}.depends_on: {what}.")
        found.append((model, field.column))
    return tuple(found)


def unrecorded(view: Any) -> str | None:
    """Return a model whose changes this view would be told of, were they recorded; and tell the developer."""
    captured = captured_models()
    shown = [view.get_model_class()]
    try:
        shown += [model for model, _ in view.dependents()]
    except ImproperlyConfigured as error:
        logger.error("%s", error)
        return "what the view depends on"
    except Exception:
        logger.exception("%s.depends_on cannot be read.", view.__name__)
        return "what the view depends on"
    for model in shown:
        if model not in captured:
            label: str = model._meta.label
            logger.error('Add "%s" to CONCORD["CAPTURE"] and migrate: its changes are not recorded.', label)
            return label
    return None


def _names_one_of(model: type[Model], field: Any) -> bool:
    if not (field.many_to_one or field.one_to_one) or not field.concrete:
        return False
    meta: Any = model._meta
    own = {meta.concrete_model, *meta.all_parents}
    return field.related_model._meta.concrete_model in own and field.target_field.primary_key


def _model_of_serializer(view: Any) -> Any:
    serializer = getattr(view, "serializer_class", None)
    return getattr(getattr(serializer, "Meta", None), "model", None)
