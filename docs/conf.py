"""The documentation site; `make docs` builds it into build/docs.

The sources are read from the root of the repository, so that links to files beside `docs/` are the same in
the site and where the repository is shown.
"""

from __future__ import annotations

from pathlib import Path

from sphinx.application import Sphinx

project = "drf-concord"
author = "The drf-concord authors"
copyright = author
root_doc = "docs/index"

extensions = ["myst_parser"]
include_patterns = [
    "docs/**.md",
    "spec/*.md",
    "clients/js/README.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
]
# folders that are not even looked into
exclude_patterns = ["**/.*", "**/node_modules", "**/__pycache__", "build", "dist", "src", "tests"]
# links name headings as the web views of repositories do
myst_heading_anchors = 3

html_theme = "furo"
html_title = project
html_copy_source = False

ENTRANCE = (
    '<!doctype html><meta http-equiv="refresh" content="0; url=docs/index.html"><title>drf-concord</title>'
)


def write_entrance(app: Sphinx, error: Exception | None) -> None:
    """Lead whoever opens the folder to the first page."""
    if error is None and app.builder.format == "html":
        Path(app.outdir, "index.html").write_text(ENTRANCE, encoding="utf-8")


def setup(app: Sphinx) -> None:
    """Called by Sphinx."""
    app.connect("build-finished", write_entrance)
