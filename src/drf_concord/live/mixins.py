"""The mixin that lets a view be subscribed to."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from django.core.exceptions import ImproperlyConfigured
from rest_framework.generics import GenericAPIView

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from django.db.models import Model

__all__ = ["RealtimeMixin"]


class RealtimeMixin:
    """A generic view or viewset whose objects can be followed over a websocket.

    It may stand before or after the other bases. The model is that of ``queryset``, else of the serializer.
    """

    group_by_fields: ClassVar[Sequence[str]] = ("pk",)
    """Fields by whose value a client may subscribe; ``id`` is another name for ``pk``."""
    depends_on: ClassVar[Mapping[Any, str]] = {}
    """Other models whose rows change what is shown, each with the name of its foreign key to this one."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Give a view that names no queryset all objects of its serializer's model."""
        super().__init_subclass__(**kwargs)
        view: Any = cls
        own = getattr(view, "get_queryset", None) is not getattr(GenericAPIView, "get_queryset", None)
        if getattr(view, "queryset", None) is None and not own:
            model = _model_of_serializer(view)
            if model is not None:
                view.queryset = model._default_manager.all()

    @classmethod
    def get_model_class(cls) -> type[Model]:
        """Return the model.

        Raises:
            ImproperlyConfigured: neither a queryset nor a serializer names it.
        """
        queryset = getattr(cls, "queryset", None)
        model = queryset.model if queryset is not None else _model_of_serializer(cls)
        if model is None:
            raise ImproperlyConfigured(
                f"{cls.__name__} names no model: give it a queryset. If get_queryset() computes one, a"
                " sentinel will do: queryset = Model.objects.none()"
            )
        found: type[Model] = model
        return found

    @classmethod
    def group_field(cls, name: str | None) -> str | None:
        """Return the field a client may group by under this name (``pk`` for ``id``), or None."""
        wanted = "pk" if name in {None, "id", "pk"} else name
        known = ["pk" if field == "id" else field for field in cls.group_by_fields]
        return wanted if wanted in known else None


def _model_of_serializer(view: Any) -> Any:
    serializer = getattr(view, "serializer_class", None)
    return getattr(getattr(serializer, "Meta", None), "model", None)
