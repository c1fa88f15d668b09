"""The application that is measured: the same rows behind four kinds of views."""
