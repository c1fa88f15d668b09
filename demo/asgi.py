"""The ASGI application: Django with the static files of the admin, and the websockets."""

from __future__ import annotations

import os

from channels.auth import AuthMiddlewareStack
from channels.routing import ProtocolTypeRouter, URLRouter
from django.contrib.staticfiles.handlers import ASGIStaticFilesHandler
from django.core.asgi import get_asgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "demo.settings")

django_application = ASGIStaticFilesHandler(get_asgi_application())

# views and models can be imported once Django is set up
from demo.tokens import from_subprotocol  # noqa: E402
from demo.websockets import urlpatterns  # noqa: E402
from drf_concord.websocket import lifespan  # noqa: E402

application = ProtocolTypeRouter(
    {
        "http": django_application,
        "websocket": from_subprotocol(AuthMiddlewareStack(URLRouter(urlpatterns))),
        "lifespan": lifespan,
    }
)
