"""To-do lists and their tasks."""
