"""The Python client, against a demo that runs in processes of its own."""
