"""The HTTP door: Django REST Framework views whose writes pass the gate."""
