"""What a consumer is at, and no other."""

from __future__ import annotations

import contextvars

from drf_concord.websocket.doing import at, doing


def test_each_consumer_is_at_something_of_its_own() -> None:
    def inside() -> None:
        ours, theirs = object(), object()
        with at(ours, "list", {"pk": 1}) as begun:
            assert doing(ours) is begun
            contextvars.copy_context().run(stranger, theirs)
            with at(ours, "retrieve", {}):
                assert doing(ours).action == "retrieve"
            assert doing(ours) is begun
        assert doing(ours).action == ""

    def stranger(owner: object) -> None:
        assert (doing(owner).action, doing(owner).arguments) == ("", {})

    contextvars.copy_context().run(inside)
