"""The pages that people use: the two boards, side by side and each alone, and the machine room."""

from __future__ import annotations

from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.clickjacking import xframe_options_sameorigin

from demo.sample import EDITORS, OPERATOR
from demo.tokens import token_for

__all__ = ["board", "boards", "machines"]


def boards(request: HttpRequest) -> HttpResponse:
    """Show the boards of the two side by side."""
    return render(request, "boards.html", {"people": EDITORS})


@xframe_options_sameorigin
def board(request: HttpRequest, name: str) -> HttpResponse:
    """Show the board of one of them."""
    if name not in EDITORS:
        raise Http404
    return _page(request, "board.html", name)


def machines(request: HttpRequest) -> HttpResponse:
    """Show the machine room, as the operator or as one of the two."""
    people = (OPERATOR, *EDITORS)
    name = request.GET.get("as", OPERATOR)
    if name not in people:
        raise Http404
    return _page(request, "machines.html", name, people=people)


def _page(request: HttpRequest, template: str, name: str, **more: object) -> HttpResponse:
    answer = render(request, template, {"name": name, "token": token_for(name), **more})
    # its token is somebody's, and runs out
    answer["Cache-Control"] = "no-store"
    return answer
