"""JSON schemas as the Prefect UI makes good forms of them."""

from __future__ import annotations

from typing import Any

from prefect.blocks.core import Block, schema_extra

_NULL = {"type": "null"}


def as_form(schema: dict[str, Any]) -> None:
    """Change a model's JSON schema so that the Prefect UI makes a better form of it.

    A text that may be left out is a text field, not a choice of `str` or `None`. Fields keep their order, which a
    server on PostgreSQL forgets. Docstrings, which are for Python, are not shown.
    """
    schema.pop("description", None)
    for position, field in enumerate(schema["properties"].values()):
        field.setdefault("position", position)
        kind, *others = field.get("anyOf", [{}])
        if others == [_NULL] and kind.get("type") == "string" and field.get("default", "") is None:
            del field["anyOf"], field["default"]
            field.update(kind)


def as_block_form(schema: dict[str, Any], block: type[Block]) -> None:
    """As `as_form`, for a block."""
    as_form(schema)
    # Prefect's own, which says what is secret: without it a secret is saved as asterisks.
    schema_extra(schema, block)
