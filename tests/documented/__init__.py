"""The documented surface, as people type it, with models and words of our own."""
