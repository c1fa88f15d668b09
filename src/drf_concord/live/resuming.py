"""Going on from where a client stopped: what it held, and what has become of that since."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.utils.crypto import salted_hmac

from ..protocol.held import Seal
from .looks import json_of
from .telling import lost, told

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from ..protocol.changes import Change
    from ..protocol.session import Rendered
    from .looks import Shown, Spec

__all__ = ["differences", "outdated", "seal_of"]


def seal_of(spec: Spec, user: Any) -> Seal:
    """Return what signs the positions of one user in one list: what another was given says nothing here."""
    view, pk = spec.view, getattr(user, "pk", None)
    bound = repr((f"{view.__module__}.{view.__qualname__}", spec.kwargs, spec.query, str(pk)))
    return Seal(salted_hmac("drf_concord.live.resuming", bound, algorithm="sha256").digest())


def outdated(
    held: Collection[str], visible: Iterable[str], concerned: Mapping[str, Sequence[Change]]
) -> list[str]:
    """Return which of the visible objects a client lacks, or may hold in an earlier state.

    Args:
        held: keys of the objects it holds.
        visible: keys of those it may see now.
        concerned: what has changed since, by key; "" where all of the model is to be looked at.
    """
    return [key for key in visible if key not in held or key in concerned or "" in concerned]


def differences(
    spec: Spec,
    held: set[str],
    visible: Collection[str],
    shown: Mapping[str, Shown],
    concerned: Mapping[str, Sequence[Change]],
) -> list[Rendered]:
    """Return what brings a client up to date.

    Args:
        spec: what is followed.
        held: keys of the objects it holds.
        visible: keys of those it may see now.
        shown: those of them that it lacks, and those that may have changed.
        concerned: what has changed since, by key.
    """
    result = [
        each
        for key, now in shown.items()
        for each in told(spec, now, concerned.get(key, []), known=key in held)
    ]
    for key in held - set(visible):
        pk = json_of(spec.model._meta.pk.to_python(key))
        result.append(lost(spec, f'{{"pk":{pk},"id":{pk}}}', concerned.get(key, []), pk=pk))
    return result
