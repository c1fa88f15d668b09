"""The first page: the story of Guido and Ada, told in commands to paste against this server."""

from __future__ import annotations

from dataclasses import dataclass
from http import HTTPStatus
from textwrap import dedent

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import reverse

from demo.documents.models import Document
from demo.sample import LOGINS

__all__ = ["story"]


@dataclass(frozen=True, slots=True)
class Step:
    """Commands, what they are for, and the statuses that they show, in this order."""

    text: str
    command: str
    expect: str = ""

    @property
    def seen(self) -> str:
        """The statuses with their names, as they stand in the answers."""
        statuses = [HTTPStatus(int(code)) for code in self.expect.split()]
        return ", then ".join(f"{status.value} {status.phrase}" for status in statuses)


@dataclass(frozen=True, slots=True)
class Chapter:
    """A part of the story."""

    title: str
    steps: tuple[Step, ...]


def _shell(text: str) -> str:
    return dedent(text).strip()


TOGETHER = Chapter(
    "Two people, one document",
    (
        Step(
            "Guido and Ada read the same document, and each keeps the ETag that came with it. The"
            " two tags are equal: it is the same state.",
            _shell(r"""
                curl -siw '\n' "$DOC"
                GUIDO_TAG=$(curl -si -u guido:guido "$DOC" | etag)
                ADA_TAG=$(curl -si -u ada:ada "$DOC" | etag)
                echo "Guido has $GUIDO_TAG, Ada has $ADA_TAG"
            """),
            "200",
        ),
        Step(
            "Guido writes. If-Match says which state his change is based on.",
            _shell(r"""
                curl -siw '\n' -u guido:guido -X PATCH "$DOC" \
                  -H "$JSON" -H "If-Match: $GUIDO_TAG" \
                  -d '{"text": "Guido: we meet at four, at the lake."}'
            """),
            "200",
        ),
        Step(
            "Ada does not know that. Her change is based on the old tag, so it is refused; the"
            " answer tells her what changed and what the document says now.",
            _shell(r"""
                ANSWER=$(curl -si -u ada:ada -X PATCH "$DOC" \
                  -H "$JSON" -H "If-Match: $ADA_TAG" \
                  -d '{"text": "Ada: I bring the bread."}')
                echo "$ANSWER"
            """),
            "412",
        ),
        Step(
            "Nothing was overwritten: the document is as Guido left it.",
            _shell(r"""
                curl -siw '\n' "$DOC"
            """),
            "200",
        ),
        Step(
            "Ada takes the current text and the current tag out of the refusal, adds her sentence"
            " and writes again. Both texts are there.",
            _shell(r"""
                CONFLICT=$(echo "$ANSWER" | tail -n 1)
                TAG=$(echo "$CONFLICT" | python3 -c '
                import json, sys
                print(json.load(sys.stdin)["current_etag"])')
                BODY=$(echo "$CONFLICT" | python3 -c '
                import json, sys
                current = json.load(sys.stdin)["current"]
                print(json.dumps({"text": current["text"] + " Ada: I bring the bread."}))')
                curl -siw '\n' -u ada:ada -X PATCH "$DOC" \
                  -H "$JSON" -H "If-Match: $TAG" -d "$BODY"
            """),
            "200",
        ),
    ),
)

HOLD = Chapter(
    "“Not now, I am writing”",
    (
        Step(
            "Guido wants a minute of peace. He takes a hold on the document, which ends by itself"
            " when the minute is over.",
            _shell(r"""
                curl -siw '\n' -u guido:guido -X POST "${DOC}lock/" \
                  -H "$JSON" -d '{"mode": "hold", "ttl": 60, "reason": "finishing the plan"}'
            """),
            "201",
        ),
        Step(
            "Ada can neither change nor delete the document now. She is told who has it, since when"
            " and why; Retry-After says in how many seconds the hold ends at the latest.",
            _shell(r"""
                curl -siw '\n' -u ada:ada -X PATCH "$DOC" \
                  -H "$JSON" -d '{"text": "Ada: I bring cake as well."}'
                curl -siw '\n' -u ada:ada -X DELETE "$DOC"
            """),
            "409 409",
        ),
        Step(
            "Guido himself may write, for it is his hold. Then he gives it back.",
            _shell(r"""
                curl -siw '\n' -u guido:guido -X PATCH "$DOC" \
                  -H "$JSON" -d '{"text": "Guido: four, at the lake. Ada: I bring the bread."}'
                curl -siw '\n' -u guido:guido -X DELETE "${DOC}lock/"
            """),
            "200 204",
        ),
        Step(
            "And Ada may write again.",
            _shell(r"""
                TAG=$(curl -si -u ada:ada "$DOC" | etag)
                curl -siw '\n' -u ada:ada -X PATCH "$DOC" \
                  -H "$JSON" -H "If-Match: $TAG" \
                  -d '{"text": "Guido: four, at the lake. Ada: I bring the bread, and cake."}'
            """),
            "200",
        ),
    ),
)

UNCHANGED = Chapter(
    "Nothing new costs next to nothing",
    (
        Step(
            "Whoever asks with the tag they have gets the document only if it has changed.",
            _shell(r"""
                TAG=$(curl -si "$DOC" | etag)
                curl -siw '\n' "$DOC" -H "If-None-Match: $TAG"
            """),
            "304",
        ),
    ),
)


def _beginning(address: str) -> Chapter:
    return Chapter(
        "Before the first command",
        (
            Step(
                "Paste the commands into one bash terminal, from top to bottom, as often as you"
                " like. These first lines name the document and say how to read a tag out of an"
                " answer.",
                _shell(rf"""
                    DOC={address}
                    JSON='Content-Type: application/json'
                    etag() {{ tr -d '\r' | sed -n 's/^[Ee][Tt]ag: //p'; }}
                """),
            ),
        ),
    )


def story(request: HttpRequest) -> HttpResponse:
    """Show the page."""
    document = Document.objects.first()
    chapters: tuple[Chapter, ...] = ()
    if document is not None:
        path = reverse("document-detail", args=[document.pk]).rstrip("/") + "/"
        chapters = (_beginning(request.build_absolute_uri(path)), TOGETHER, HOLD, UNCHANGED)
    return render(request, "story.html", {"chapters": chapters, "logins": LOGINS})
