"""The docstrings in the forms that mkdocstrings understands: an extension of griffe."""

from __future__ import annotations

import ast
import re
from typing import Any

from griffe import Attribute, Docstring, ExprCall, ExprKeyword, Extension, Module, Object

_SENTENCE = re.compile(r"(?m)^Raises: (.*)$(\n(?= ))?")


class Docstrings(Extension):
    """Examples are code, a sentence after `Raises:` is a sentence, and a field has the description of its form."""

    def on_package(self, *, pkg: Module, **others: Any) -> None:
        """Change the docstring of the package too, which is the member of nothing."""
        self.on_object(obj=pkg)

    def on_object(self, *, obj: Object, **others: Any) -> None:
        """Change the docstring of an object before it is parsed."""
        if isinstance(obj, Attribute) and obj.docstring is None and (description := _description(obj)):
            obj.docstring = Docstring(description, parent=obj)
        if obj.docstring is not None:
            text = re.sub(r"(?m)^Example:$", "Examples:", obj.docstring.value)
            obj.docstring.value = _SENTENCE.sub(_as_sentence, text)


def _description(field: Attribute) -> str:
    """Return the description that pydantic's `Field` gives a field."""
    call = field.value
    if not isinstance(call, ExprCall) or str(call.function) != "Field":
        return ""
    given = {each.name: str(each.value) for each in call.arguments if isinstance(each, ExprKeyword)}
    try:
        return str(ast.literal_eval(given.get("description", "''")))
    except ValueError:  # no literal
        return ""


def _as_sentence(found: re.Match[str]) -> str:
    return f"Raises {found[1]}" + ("\n\nRaises:\n" if found[2] else "")
