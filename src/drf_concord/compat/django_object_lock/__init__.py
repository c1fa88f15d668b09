"""The paths of django-object-lock."""
