"""A consumer over Django's own users; staff only."""

from __future__ import annotations

from typing import Any

from django.contrib.auth import get_user_model
from rest_framework import serializers
from rest_framework.permissions import IsAdminUser

from drf_concord.websocket.generics import GenericAsyncAPIConsumer
from drf_concord.websocket.mixins import (
    CreateModelMixin,
    DeleteModelMixin,
    ListModelMixin,
    PatchModelMixin,
    RetrieveModelMixin,
    UpdateModelMixin,
)

__all__ = ["UserConsumer", "UserSerializer"]

User = get_user_model()


class UserSerializer(serializers.ModelSerializer[Any]):
    """A user; a password goes in, as `password` or twice as in a form, and never comes out."""

    username = serializers.CharField(max_length=150)  # a space is allowed, as people like them
    email = serializers.EmailField(required=False, allow_blank=True)
    password = serializers.CharField(write_only=True, required=False)
    password1 = serializers.CharField(write_only=True, required=False)
    password2 = serializers.CharField(write_only=True, required=False)

    class Meta:
        model = User
        fields = ["id", "username", "email", "password", "password1", "password2"]

    def validate_username(self, value: str) -> str:
        """Refuse a name that somebody else has."""
        own: Any = getattr(self.instance, "pk", None)
        if User.objects.exclude(pk=own).filter(username=value).exists():
            raise serializers.ValidationError("A user with that username already exists.")
        return value

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        """Make one password of the two."""
        first, second = attrs.pop("password1", None), attrs.pop("password2", None)
        if first != second:
            raise serializers.ValidationError({"password2": ["The two passwords differ."]})
        if first is not None:
            attrs["password"] = first
        return attrs

    def create(self, validated_data: dict[str, Any]) -> Any:
        """Create the user, with the password hashed; without one nobody can log in."""
        return User.objects.create_user(**validated_data)

    def update(self, instance: Any, validated_data: dict[str, Any]) -> Any:
        """Change the user, with the password hashed."""
        password = validated_data.pop("password", None)
        if password is not None:
            instance.set_password(password)
        return super().update(instance, validated_data)


class UserConsumer(
    ListModelMixin,
    RetrieveModelMixin,
    PatchModelMixin,
    UpdateModelMixin,
    CreateModelMixin,
    DeleteModelMixin,
    GenericAsyncAPIConsumer,
):
    """The users."""

    queryset = User.objects.order_by("pk")
    serializer_class = UserSerializer
    permission_classes = [IsAdminUser]
