"""Language tags (BCP 47) in their usual form."""

from __future__ import annotations

import re

# The part of BCP 47 that a PDS accepts: a language with its extensions, a script, a region and variants.
_LANGUAGE = re.compile(
    r"(?P<language>[a-z]{2,3}(-[a-z]{3}){0,3})(-(?P<script>[a-z]{4}))?(-(?P<region>[a-z]{2}|\d{3}))?"
    r"(?P<variants>(-([a-z0-9]{5,8}|\d[a-z0-9]{3}))*)"
)


def normal_language(language: str) -> str:
    """Return a language tag in its usual form, such as pt-BR; raise `ValueError` if it is not a tag."""
    parts = _LANGUAGE.fullmatch(language.strip().lower())
    variants = parts["variants"].split("-")[1:] if parts else []
    if parts is None or len(set(variants)) < len(variants):
        raise ValueError(f"{language!r} is not a language. Write its code, such as en, de or pt-BR.")
    script, region = (parts["script"] or "").title(), (parts["region"] or "").upper()
    return "-".join(filter(None, [parts["language"], script, region, *variants]))
