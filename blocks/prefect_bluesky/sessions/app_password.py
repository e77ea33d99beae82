"""The sources of an app password: the block itself, or a secret in AWS."""

from __future__ import annotations

import json
from collections.abc import Callable

from prefect_bluesky.errors import InvalidInput
from prefect_bluesky.sessions.stores.aws_secret import AwsSecret
from prefect_bluesky.validation import normal_app_password

_FORMS = 'Store {"app_password": "xxxx-xxxx-xxxx-xxxx"}, or the app password alone.'

AppPassword = Callable[[], str]
"""Returns the current app password."""


def from_block(password: str) -> AppPassword:
    """Return a reader of the app password in the block."""
    return lambda: password


def from_secret(secret: AwsSecret) -> AppPassword:
    """Return a reader of a secret: plain text, or JSON with the key `app_password` or `password`.

    Each login reads the secret again, so a replaced app password is used without a restart.
    """

    def read() -> str:
        found = secret.read()
        if found is None:
            reason = f"the block has no app password, and there is no {secret.place}."
            raise InvalidInput("app_password", reason, "Fill in the block's app password or create the secret.")
        return normal_app_password(_password_in(found[0]))

    return read


def _password_in(text: str) -> str:
    try:
        content = json.loads(text)
    except ValueError:
        if text.lstrip().startswith("{"):  # sending damaged JSON as the app password would waste a login
            raise InvalidInput("app_password", "the secret's JSON is damaged.", _FORMS) from None
        return text
    if not isinstance(content, dict):
        return text
    password = content.get("app_password") or content.get("password")
    if not isinstance(password, str):
        raise InvalidInput("app_password", "the secret's JSON has no text under the key app_password.", _FORMS)
    return password
