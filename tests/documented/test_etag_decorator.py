"""A tag from a function, on a plain generic view."""

from __future__ import annotations

from hashlib import sha256
from typing import Any

import pytest
from django.urls import path
from rest_framework import generics, serializers
from rest_framework.test import APIClient

from drf_concord.rest.decorators import optimistic_concurrency_control
from tests.app.models import Bare

pytestmark = [pytest.mark.django_db, pytest.mark.urls(__name__)]


class LetterSerializer(serializers.ModelSerializer):
    class Meta:
        model = Bare
        fields = ["id", "text"]


def fingerprint(view: Any) -> str:
    return sha256(view.get_object().text.encode()).hexdigest()


@optimistic_concurrency_control(fingerprint)
class LetterView(generics.RetrieveAPIView, generics.UpdateAPIView):
    queryset = Bare.objects.all()
    serializer_class = LetterSerializer


urlpatterns = [path("letters/<int:pk>/", LetterView.as_view())]


def test_guido_and_ada_write_one_letter() -> None:
    letter = Bare.objects.create(text="Dear all")
    guido, ada = APIClient(), APIClient()
    address = f"/letters/{letter.pk}/"
    tags = [client.get(address)["ETag"] for client in (guido, ada)]
    assert tags == [f'"{sha256(b"Dear all").hexdigest()}"'] * 2

    saved = guido.put(address, {"text": "Dear Ada"}, headers={"If-Match": tags[0]})
    assert (saved.status_code, saved["ETag"]) == (200, f'"{sha256(b"Dear Ada").hexdigest()}"')
    late = ada.put(address, {"text": "Dear Guido"}, headers={"If-Match": tags[1]})
    assert late.status_code == 412
    assert ada.put(address, {"text": "Dear Guido"}).status_code == 412
    assert Bare.objects.get().text == "Dear Ada"

    bare = ada.get(address)["ETag"].strip('"')
    assert ada.put(address, {"text": "Dear Guido"}, headers={"If-Match": bare[::-1]}).status_code == 412
    assert ada.put(address, {"text": "Dear Guido"}, headers={"If-Match": bare}).status_code == 200
