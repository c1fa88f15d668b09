"""The demo: to-do lists, documents and a machine room, and the fixture of the end-to-end tests."""
