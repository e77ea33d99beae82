"""Change JSON schemas so that the Prefect UI makes better forms of them."""

from __future__ import annotations

from typing import Any

from prefect.blocks.core import Block, schema_extra

_NULL = {"type": "null"}


def as_form(schema: dict[str, Any]) -> None:
    """Change a model's JSON schema so that the Prefect UI makes a better form of it.

    An optional text becomes a text field, not a choice of `str` or `None`. Fields get positions, as a server on
    PostgreSQL forgets their order. Docstrings, which are for Python, are not shown.
    """
    schema.pop("description", None)
    for position, field in enumerate(schema["properties"].values()):
        field.setdefault("position", position)
        kind, *others = field.get("anyOf", [{}])
        if others == [_NULL] and kind.get("type") == "string" and field.get("default", "") is None:
            del field["anyOf"], field["default"]
            field.update(kind)


def as_block_form(schema: dict[str, Any], block: type[Block]) -> None:
    """Change a block's JSON schema as `as_form` does.

    Prefect's older UI preselects the first kind of a choice, whatever the default, and saves it empty.
    """
    as_form(schema)
    for field in schema["properties"].values():
        if _NULL in (kinds := field.get("anyOf", [])) and field.get("default", "") is None:
            field["anyOf"] = [_NULL, *(kind for kind in kinds if kind != _NULL)]
    # Prefect's own step marks the secret fields: without it a secret is saved as asterisks.
    schema_extra(schema, block)
