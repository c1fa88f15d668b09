"""The module paths of former packages: moving a project over is a change of a prefix.

Names are re-exported, and adapted where the former package spoke another way; what they do is done elsewhere.
"""
