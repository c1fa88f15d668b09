"""System checks: each says what is wrong, and is silent about what is right."""

from __future__ import annotations

import gc
import sys
import textwrap
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from django.apps import apps
from django.contrib.auth import get_user_model
from django.core.checks import run_checks
from django.db import connection, models
from django.test import override_settings
from django.test.utils import isolate_apps
from django.urls import include, path
from rest_framework.decorators import action
from rest_framework.routers import SimpleRouter

from drf_concord import checks, triggers
from drf_concord.conf import Settings
from drf_concord.live import RealtimeMixin
from drf_concord.live.mixins import _dependents
from drf_concord.models import Lockable, Versioned, VersionedQuerySet
from drf_concord.rest import viewsets
from drf_concord.rest.locks import StatesLockMixin
from drf_concord.triggers.plan import captured_models
from drf_concord.websocket import (
    ObserverModelInstanceMixin,
    RealtimeRouter,
    instances,
    model_observer,
    observers,
    router,
)
from tests.app.models import Bare, Item, Texted, Watched
from tests.kinds.models import Machine


def ids(found: list[Any]) -> list[str]:
    return [message.id for message in found]


def said(found: list[Any]) -> str:
    return "\n".join(f"{message.msg} {message.hint}" for message in found)


# -------------------------------------------------------------------------------- settings


@pytest.mark.parametrize("name", [name for name in vars(Settings) if name.isupper()])
def test_the_defaults_are_right(name: str) -> None:
    with override_settings(CONCORD={name: vars(Settings)[name]}):
        assert checks.check_settings() == []


def test_an_unknown_key_is_named_with_those_there_are() -> None:
    with override_settings(CONCORD={"LOCK_TTTL": 3}):
        found = checks.check_settings()
    assert ids(found) == ["concord.E001"]
    assert "'LOCK_TTTL'" in said(found)
    assert "LOCK_TTL," in said(found)


def test_settings_are_a_dictionary() -> None:
    with override_settings(CONCORD=["LOCK_TTL"]):
        assert ids(checks.check_settings()) == ["concord.E001"]
    with override_settings(CONCORD=None):
        assert checks.check_settings() == []


WRONG: dict[str, list[Any]] = {
    "LOCKED_STATUS": [200, "409"],
    "LOCK_HOLDER": ["tab", None],
    "DISCLOSURE": ["all"],
    "REQUIRE_PRECONDITION": ["yes", None],
    "LOCK_TTL": [0, -1, 1.5, "30", True, None],
    "LOCK_MAX_TTL": [0],
    "LOCK_MAX_HOLD": [None],
    "LOCKS_PER_USER": [0],
    "RETENTION": [-1],
    "RETENTION_ROWS": ["many"],
    "LOCK_TIMEOUT": [0, -1, "5", True],
    "RELEASE": [None, 3],
    "CAPTURE": ["app.Model", [Item], 3],
    "HINTS": ["memory", ["nats"], None],
    "SOCKET_MIDDLEWARE": ["a.b", [3]],
    "SOCKET_THREADS": [0],
    "AUTH_REFRESH": [-1],
    "MAX_LIST": ["all"],
    "LOCK_RATE": ["fast", 120, "120/year"],
}


@pytest.mark.parametrize("name", WRONG)
def test_a_value_that_cannot_work_is_an_error(name: str) -> None:
    for value in WRONG[name]:
        with override_settings(CONCORD={name: value}):
            found = checks.check_settings()
        assert ids(found) == ["concord.E002"], value
        assert repr(value) in said(found)


class InAView:
    def process_view(self, *args: Any) -> None:
        """Refuse some; over HTTP alone."""


def test_socket_middleware_that_would_not_be_asked_is_reported() -> None:
    paths = ["django.middleware.locale.LocaleMiddleware", f"{__name__}.InAView", "nowhere.at_all"]
    with override_settings(CONCORD={"SOCKET_MIDDLEWARE": paths}):
        found = checks.check_settings()
    assert ids(found) == ["concord.W018", "concord.E018"]
    assert f"{__name__}.InAView.process_view()" in said(found)


def test_other_values_work() -> None:
    given = {"LOCK_TIMEOUT": 0.5, "LOCKED_STATUS": 423, "CAPTURE": {"app.Bare"}, "LOCK_RATE": None}
    with override_settings(CONCORD={**given, "LOCK_TIMEOUT": None}):
        assert checks.check_settings() == []
    with override_settings(CONCORD=given):
        assert checks.check_settings() == []


def test_a_lock_lasts_no_longer_than_it_may() -> None:
    with override_settings(CONCORD={"LOCK_TTL": 7200}):
        found = checks.check_settings()
    assert ids(found) == ["concord.E002"]
    assert "LOCK_MAX_TTL, which is 3600" in said(found)


# ---------------------------------------------------------------------------------- models


@pytest.fixture
def lab(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A registry of its own for models that must not be in the project."""
    with isolate_apps("tests.app") as registry, override_settings(CONCORD={}):
        monkeypatch.setattr(checks, "apps", registry)
        yield registry


def test_the_models_of_the_tests_are_right() -> None:
    assert checks.check_models(app_configs=apps.get_app_configs()) == []


@pytest.mark.parametrize("label", ["app.Nothing", "nowhere.Item", "Item", "a.b.c"])
def test_a_captured_model_exists(label: str) -> None:
    with override_settings(CONCORD={"CAPTURE": [label]}):
        found = checks.check_models()
    assert ids(found) == ["concord.E003"]
    assert repr(label) in said(found)


def test_touches_name_foreign_keys_to_versioned_models_elsewhere(lab: Any) -> None:
    class Plain(models.Model):
        class Meta:
            app_label = "app"

    class Shelf(Versioned):
        class Meta:
            app_label = "app"

    class Book(Versioned):
        touches = ("title", "nothing", "plain", "sequel_of", "shelves", "shelf")

        title = models.CharField(max_length=9)
        plain = models.ForeignKey(Plain, on_delete=models.CASCADE)
        sequel_of = models.ForeignKey("self", on_delete=models.CASCADE)
        shelves = models.ManyToManyField(Shelf, related_name="+")
        shelf = models.ForeignKey(Shelf, on_delete=models.CASCADE)

        class Meta:
            app_label = "app"

    found = checks.check_models()

    assert ids(found) == ["concord.E004"] * 5
    for name in Book.touches[:5]:
        assert f"touches names {name!r}" in said(found)
    assert "Let app.Plain inherit from" in said(found)


def test_touches_lead_to_no_circle(lab: Any) -> None:
    class Hen(Versioned):
        touches = ("egg",)

        egg = models.ForeignKey("app.Egg", on_delete=models.CASCADE)

        class Meta:
            app_label = "app"

    class Egg(Versioned):
        touches = ("hen",)

        hen = models.ForeignKey(Hen, on_delete=models.CASCADE)

        class Meta:
            app_label = "app"

    class Feather(Versioned):
        """Hangs on the circle, and is not in it."""

        touches = ("hen",)

        hen = models.ForeignKey(Hen, on_delete=models.CASCADE)

        class Meta:
            app_label = "app"

    found = checks.check_models()

    assert ids(found) == ["concord.E004"] * 2
    assert {message.obj for message in found} == {Hen, Egg}
    assert "leads back to itself" in said(found)


@pytest.mark.parametrize("base", [Versioned, Lockable, models.Model])
def test_a_composite_key_is_refused(lab: Any, base: Any) -> None:
    class Seat(base):  # type: ignore[misc]
        pk = models.CompositePrimaryKey("row", "number")
        row = models.IntegerField()
        number = models.IntegerField()

        class Meta:
            app_label = "app"

    with override_settings(CONCORD={"CAPTURE": ["app.Seat"]}):
        found = checks.check_models()
    assert ids(found) == ["concord.E007"]
    assert "app.Seat has a composite primary key" in said(found)
    assert "primary key of one column" in said(found)
    with override_settings(CONCORD={}):
        assert len(checks.check_models()) == (base is not models.Model)


def test_a_second_base_with_keys_of_its_own_is_reported(lab: Any) -> None:
    class Left(models.Model):
        left_id = models.AutoField(primary_key=True)

        class Meta:
            app_label = "app"

    class Right(Versioned):
        right_id = models.AutoField(primary_key=True)

        class Meta:
            app_label = "app"

    class Both(Left, Right):
        class Meta:
            app_label = "app"

    class Turned(Right, Left, Lockable):
        class Meta:
            app_label = "app"

    class Proxy(Turned):
        class Meta:
            app_label = "app"
            proxy = True

    found = [m for m in checks.check_models() if m.obj is not Proxy]

    assert {(m.id, m.obj) for m in found} == {("concord.E008", Both), ("concord.W008", Turned)}
    assert "app.Both has its version in app.Right" in said(found)
    assert "Locks on app.Turned are those of app.Right: under app.Left" in said(found)


def test_a_base_behind_ours_has_to_take_what_is_passed(lab: Any) -> None:
    class Narrow(models.Model):
        class Meta:
            abstract = True

        def save(self) -> None:  # type: ignore[override]
            super().save()

        def delete(self) -> None:  # type: ignore[override]
            super().delete()

    class Wide(models.Model):
        class Meta:
            abstract = True

        def save(self, *args: Any, **kwargs: Any) -> None:
            super().save(*args, **kwargs)

        def delete(self, using: Any = None, keep_parents: bool = False) -> Any:
            return super().delete(using, keep_parents)

    class Behind(Versioned, Narrow):
        class Meta:
            app_label = "app"

    type("Before", (Narrow, Versioned), {"Meta": Meta, "__module__": __name__})
    type("Fine", (Lockable, Versioned, Wide), {"Meta": Meta, "__module__": __name__})
    found = checks.check_models()

    assert [(m.id, m.obj) for m in found] == [("concord.E009", Behind)] * 2
    assert "Narrow.save() is called by app.Behind" in said(found)
    assert "def delete(self, *args, **kwargs)" in said(found)


# --------------------------------------------------------------------------------- routers


@pytest.fixture
def none_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that has no routers."""
    monkeypatch.setattr(router, "routers", type(router.routers)())


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
    """Write a module of a project, ``live_project``, that nobody has imported."""
    monkeypatch.syspath_prepend(tmp_path)

    def write(code: str) -> None:
        (tmp_path / "live_project.py").write_text(textwrap.dedent(code))

    yield write
    sys.modules.pop("live_project", None)


def live(of: Any) -> Any:
    """Return a view that can be followed."""
    return type(f"Live{of.__name__}", (RealtimeMixin, viewsets.ModelViewSet), {"queryset": of.objects.all()})


ROUTER = """
from drf_concord.websocket import RealtimeRouter
from tests.test_checks import Bare, live

urlpatterns = []
router = RealtimeRouter()
router.register(live(Bare))
application = router.consumer
"""


def test_a_view_whose_changes_are_not_recorded_cannot_be_followed(none_yet: None) -> None:
    router = RealtimeRouter()
    router.register_all(map(live, (Item, Bare, Watched, get_user_model())))
    other = RealtimeRouter()
    other.register(router.view("app.Bare"))

    found = checks.check_routers()
    assert [(m.id, m.obj) for m in found] == [("concord.E012", router.view("app.Bare"))]
    assert "LiveBare is on a websocket router, but changes of app.Bare are not recorded." in said(found)
    assert 'Add "app.Bare" to CONCORD["CAPTURE"]' in said(found)
    assert "drf_concord.models.Versioned" in said(found)

    with override_settings(CONCORD={"CAPTURE": ["app.Bare", "app.Watched"]}):
        assert checks.check_routers() == []
    for unreadable in (["app.Nothing"], ["Bare"], 3):
        with override_settings(CONCORD={"CAPTURE": unreadable}):
            assert checks.check_routers() == []  # E002 and E003 say that


def test_what_a_view_depends_on_is_recorded_too(none_yet: None) -> None:
    users = live(get_user_model())
    users.depends_on = {"app.Item": "owner"}
    kept = RealtimeRouter()  # known as long as somebody has it
    kept.register(users)
    assert checks.check_routers() == []
    users.depends_on = {"app.Item": "text"}
    _dependents.cache_clear()
    [wrong] = checks.check_routers()
    assert (wrong.id, wrong.obj) == ("concord.E013", users)
    assert "app.Item.text is no foreign key" in said([wrong])
    users.depends_on = {"app.Item": "owner"}
    _dependents.cache_clear()
    with pytest.MonkeyPatch.context() as patch:
        others = [model for model in captured_models() if model is not Item]
        patch.setattr(sys.modules["drf_concord.triggers.plan"], "captured_models", lambda: others)
        [missing] = checks.check_routers()
    assert (missing.id, missing.obj) == ("concord.E012", users)
    assert "changes of app.Item are not recorded" in said([missing])


@isolate_apps("tests.app")
def test_no_line_in_the_settings_helps_a_proxy(none_yet: None) -> None:
    class Shown(Item):
        class Meta:
            app_label = "app"
            proxy = True

    router = RealtimeRouter()
    router.register(live(Shown))
    found = checks.check_routers()
    assert ids(found) == ["concord.E012"]
    assert "app.Shown is a proxy of app.Item" in said(found)
    assert "CAPTURE" not in said(found)


def test_a_router_that_is_gone_is_not_checked(none_yet: None) -> None:
    RealtimeRouter().register(live(Bare))
    gc.collect()
    assert checks.check_routers() == []


@pytest.mark.parametrize(
    "where", [{"ASGI_APPLICATION": "live_project.application"}, {"ROOT_URLCONF": "live_project"}], ids=str
)
def test_routers_are_found_where_a_project_names_its_code(
    where: dict[str, str], module: Callable[[str], None], none_yet: None
) -> None:
    module(ROUTER)
    with override_settings(**where):
        assert "live_project" not in sys.modules
        assert ids(checks.check_routers()) == ["concord.E012"]
    with override_settings(ROOT_URLCONF=None):
        assert ids(checks.check_routers()) == ["concord.E012"]  # it is imported now


@pytest.mark.parametrize("code", ["raise OSError('no broker here')", "application: int"])
def test_an_application_that_cannot_be_imported_stops_nothing(
    code: str, module: Callable[[str], None], none_yet: None
) -> None:
    module(code)
    router = RealtimeRouter()
    router.register(live(Bare))
    with override_settings(ASGI_APPLICATION="live_project.application"):
        found = checks.check_routers()
    assert ids(found) == ["concord.W012", "concord.E012"]
    assert "ASGI_APPLICATION 'live_project.application' cannot be imported" in said(found)
    assert ("OSError: no broker here" in said(found)) == ("OSError" in code)


def test_the_routers_of_the_tests_are_right() -> None:
    with override_settings(ASGI_APPLICATION="tests.app.sockets.application"):
        assert checks.check_routers() == []


def test_an_own_action_in_the_place_of_the_lock_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    class OwnLockViewSet(viewsets.ModelViewSet):
        queryset = Bare.objects.all()

        @action(methods=["PUT"], detail=True)
        def lock(self, request: Any, pk: Any = None) -> None: ...

    class ElsewhereViewSet(viewsets.ModelViewSet):
        queryset = Bare.objects.all()

        @action(methods=["PUT"], detail=True, url_path="seal")
        def lock(self, request: Any, pk: Any = None) -> None: ...

    router = SimpleRouter()
    router.register("own", OwnLockViewSet, basename="own")
    router.register("elsewhere", ElsewhereViewSet, basename="elsewhere")
    urls = types.ModuleType("urls_of_a_lock")
    urls.urlpatterns = [path("api/", include(router.urls))]  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "urls_of_a_lock", urls)
    with override_settings(ROOT_URLCONF="urls_of_a_lock"):
        found = checks.check_views()
    assert ids(found) == ["concord.W014"]
    assert "OwnLockViewSet.lock()" in said(found)
    assert checks.check_views() == []
    with override_settings(ROOT_URLCONF=None):
        assert checks.check_views() == []


def test_an_object_whose_address_is_taken_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    class TextedViewSet(viewsets.ReadOnlyModelViewSet):
        queryset = Texted.objects.all()

    class Said(TextedViewSet):
        changes_over_http = True

    class Numbered(Said):
        lookup_value_regex = "[0-9]+"

    class ByNumber(viewsets.ReadOnlyModelViewSet):
        queryset = Bare.objects.all()
        changes_over_http = True

    router = SimpleRouter()
    for view in (TextedViewSet, Said, Numbered, ByNumber):
        router.register(view.__name__, view, basename=view.__name__)
    urls = types.ModuleType("urls_of_changes")
    urls.urlpatterns = router.urls  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "urls_of_changes", urls)
    with override_settings(ROOT_URLCONF="urls_of_changes"):
        found = checks.check_views()
    assert ids(found) == ["concord.W017"]
    assert "Said has changes/" in said(found)


@pytest.mark.parametrize(
    ("field", "problem"),
    [
        ("state", None),
        (None, None),
        ("missing", "no such field"),
        ("id", "no text"),
        ("short", "longer than its 5"),
    ],
)
def test_a_state_that_cannot_say_locked_is_reported(
    field: str | None, problem: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    class MachineViewSet(StatesLockMixin, viewsets.ModelViewSet):
        queryset = Machine.objects.all()
        state_field = "note" if field == "short" else field

    monkeypatch.setattr(Machine._meta.get_field("note"), "max_length", 5)
    router = SimpleRouter()
    router.register("machines", MachineViewSet)
    urls = types.ModuleType("urls_of_a_state")
    urls.urlpatterns = router.urls  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "urls_of_a_state", urls)
    with override_settings(ROOT_URLCONF="urls_of_a_state"):
        found = checks.check_views()
    assert ids(found) == ([] if problem is None else ["concord.E015"])
    assert problem is None or problem in said(found)


def test_an_observer_of_what_is_not_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(observers, "observers", type(observers.observers)())

    async def told(self: Any, message: Any) -> None:
        """Is told nothing."""

    declared = [model_observer(model)(told) for model in (Item, Watched, Bare)]
    found = checks.check_observers()
    assert ids(found) == ["concord.E012"]
    assert 'observes app.Bare, but changes of it are not recorded. Add "app.Bare"' in said(found)
    for capture in (["app.Bare", "app.Watched"], 3):
        with override_settings(CONCORD={"CAPTURE": capture}):
            assert checks.check_observers() == []
    assert len(declared) == 3


def test_a_consumer_that_follows_what_is_not_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(instances, "followers", type(instances.followers)())
    monkeypatch.setattr(observers, "observers", type(observers.observers)())
    declared = [
        type(f"Of{model.__name__}", (ObserverModelInstanceMixin,), {"queryset": model._default_manager.all()})
        for model in (Item, Bare)
    ]
    found = checks.check_observers()
    assert ids(found) == ["concord.E012"]
    assert 'OfBare has subscribe_instance, but changes of app.Bare are not recorded. Add "app.Bare"' in said(
        found
    )
    with override_settings(CONCORD={"CAPTURE": ["app.Bare"]}):
        assert checks.check_observers() == []
    assert len(declared) == 2


# ------------------------------------------------------------------------------- databases


@pytest.mark.django_db
@pytest.mark.parametrize("given", ["text", ["app.Bare"], {"CAPTURE": ["app.Nothing"]}, {"CAPTURE": [3]}])
def test_settings_that_cannot_be_read_are_told_and_not_raised(given: Any) -> None:
    with override_settings(CONCORD=given):
        found = ids(run_checks(databases=["default"]))
    assert {"concord.E001", "concord.E002", "concord.E003"}.intersection(found)


@pytest.mark.django_db
@pytest.mark.sqlite
@pytest.mark.postgresql
@pytest.mark.mariadb
def test_the_test_database_is_right() -> None:
    found = checks.check_databases(databases=["default"])
    if connection.vendor == "mysql":
        assert set(ids(found)) <= {"concord.W011"}
    else:
        assert found == []
    assert checks.check_databases() == []


@pytest.mark.django_db
@pytest.mark.sqlite
def test_sqlite_is_to_have_a_write_ahead_log(monkeypatch: pytest.MonkeyPatch) -> None:
    class Cursor:
        def __enter__(self) -> Any:
            return self

        def __exit__(self, *_: Any) -> None: ...

        def execute(self, sql: str) -> None:
            assert sql == "PRAGMA journal_mode"

        def fetchone(self) -> tuple[str]:
            return ("delete",)

    monkeypatch.setattr(connection, "cursor", Cursor)
    assert ids(checks._check_sqlite(connection)) == ["concord.W005"]
    monkeypatch.setattr(connection, "is_in_memory_db", lambda: True)
    assert checks._check_sqlite(connection) == []


@pytest.mark.django_db
def test_missing_triggers_are_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(triggers, "problems", lambda alias: [f"Something on {alias}."])
    found = checks.check_databases(databases=["default"])
    assert ids(found) == ["concord.W006"]
    assert "concord triggers --install" in said(found)


@pytest.mark.parametrize(
    ("level", "found"),
    [
        ("read committed", []),
        ("serializable", []),
        ("repeatable read", ["concord.W010"]),
        (None, ["concord.W010"]),
    ],
)
def test_mariadb_is_to_read_what_is_committed(level: str | None, found: list[str], lab: Any) -> None:
    assert ids(checks._check_mysql(Connection(level))) == found


class Meta:
    app_label = "app"


class Connection:
    alias = "default"

    def __init__(self, level: str | None) -> None:
        self._level = level

    def ensure_connection(self) -> None:
        self.isolation_level = self._level


def test_without_triggers_a_manager_has_to_move_versions(lab: Any) -> None:
    class Own(Versioned):
        objects = models.Manager()

        class Meta:
            app_label = "app"

    built = models.Manager.from_queryset(VersionedQuerySet)()
    type("Built", (Versioned,), {"Meta": Meta, "__module__": __name__, "objects": built})
    found = checks._check_mysql(Connection("read committed"))

    assert [(m.id, m.obj) for m in found] == [("concord.W011", Own)]


@pytest.mark.django_db
def test_they_are_all_registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(triggers, "problems", lambda alias: ["Something."])
    with override_settings(CONCORD={"NOTHING": 1, "CAPTURE": ["app.Nothing"]}):
        found = ids(run_checks(databases=["default"]))
    assert {"concord.E001", "concord.E003", "concord.W006"} <= set(found)


@pytest.mark.django_db  # Django's own check of a JSONField asks the database what it can do
def test_routers_are_checked_with_the_urls_which_import_the_same_code(none_yet: None) -> None:
    router = RealtimeRouter()
    router.register(live(Bare))
    assert ids(run_checks(tags=["urls"])) == ["concord.E012"]
    assert run_checks(tags=["models"]) == []
