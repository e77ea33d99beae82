"""The forms of deployments."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from typing import Any

from prefect_bluesky.prefect_api import as_form

Schema = dict[str, Any]

_FILE = "A path on the machine that publishes, or an https:// URL."


def short_form(schema: Schema) -> Schema:
    """Return the form that asks for an account, a text, pictures and a link, of the form for a whole post.

    Whatever else a post can have is still accepted from code: Prefect checks a run against its deployment's form.
    """
    made = deepcopy(schema)
    fields, definitions = made["properties"], made["definitions"]
    post, image = definitions["Post"]["properties"], definitions["Image"]["properties"]
    text = {**post["text"], "title": "Text", "minLength": 1, "position": 0}
    text.pop("default", None)
    pictures = {
        **post["images"],
        "title": "Pictures",
        "position": 1,
        "items": {
            "type": "object",
            "title": "Picture",
            "properties": {
                "source": {**image["source"], "title": "File", "description": _FILE, "position": 0},
                "alt": {**image["alt"], "position": 1},
            },
            "required": ["source"],
        },
    }
    link = {
        "type": "string",
        "title": "Link",
        "description": "A page to show as a card below the text, instead of pictures.",
        "examples": ["https://example.com"],
        "position": 2,
    }
    fields["credentials"] |= {"title": "Account", "description": "Pick a saved account, or add one."}
    fields["post"] = {
        "type": "object",
        "title": "Post",
        "position": 1,
        "properties": {"text": text, "images": pictures, "link_card": link},
        "required": ["text"],
    }
    for name in fields.keys() - {"credentials", "post"}:
        del fields[name]
    return made


_SHORT: dict[str, Callable[[Schema], Schema]] = {"publish/publish": short_form}
"""The deployments that ask for less than their flow takes, with what makes their forms."""


def form_of(deployment: str, schema: Schema) -> Schema:
    """Return the form of a deployment, of the schema of its flow's parameters."""
    as_form(schema)
    return _SHORT[deployment](schema) if deployment in _SHORT else schema
