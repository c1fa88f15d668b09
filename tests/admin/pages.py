"""What a browser would send of a page of the admin."""

from __future__ import annotations

from html.parser import HTMLParser
from typing import Any

__all__ = ["fill", "filled"]


class _Page(HTMLParser):
    """The fields of all forms of a page that post, as they are filled in."""

    def __init__(self) -> None:
        super().__init__()
        self.fields: dict[str, str] = {}
        self._posts = False
        self._select = self._area = ""

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        found = dict(attributes)
        name, value = found.get("name") or "", found.get("value") or ""
        if tag == "form":
            self._posts = found.get("method") == "post" and "logout" not in (found.get("id") or "")
        if not self._posts:
            return
        if tag == "textarea":
            self._area = name
            self.fields[name] = ""
        elif tag == "select":
            self._select = name
        elif tag == "option" and self._select and "selected" in found:
            self.fields[self._select] = value
        elif tag == "input" and found.get("type") == "checkbox":
            if "checked" in found:
                self.fields[name] = value or "on"
        elif tag == "input" and found.get("type") != "submit" and name:
            self.fields[name] = value

    def handle_endtag(self, tag: str) -> None:
        if tag == "textarea":
            self._area = ""
        elif tag == "select":
            self._select = ""

    def handle_data(self, data: str) -> None:
        if self._area:
            # a browser takes the first line break away
            self.fields[self._area] += data.removeprefix("\n").removeprefix("\r\n")


def filled(response: Any) -> dict[str, str]:
    """Return what a page would send as it stands."""
    assert response.status_code == 200
    page = _Page()
    page.feed(response.content.decode())
    return {name: value for name, value in page.fields.items() if "__prefix__" not in name}


def fill(response: Any, **values: str) -> dict[str, str]:
    """Return what a page would send with these values typed into it; two underscores stand for a hyphen."""
    fields = filled(response)
    typed = {name.replace("__", "-"): value for name, value in values.items()}
    assert [name for name in typed if name not in fields and not name.startswith("_")] == []
    return fields | typed
