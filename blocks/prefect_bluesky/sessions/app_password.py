"""Where an account's app password comes from: the block itself, or a secret that people keep."""

from __future__ import annotations

import json
from collections.abc import Callable

from prefect_bluesky.errors import InvalidInput
from prefect_bluesky.sessions.stores.aws_secret import AwsSecret
from prefect_bluesky.validation import normal_app_password

_FORMS = 'Store {"app_password": "xxxx-xxxx-xxxx-xxxx"}, or the app password alone.'

AppPassword = Callable[[], str]
"""Reads the app password as it is now."""


def from_block(password: str) -> AppPassword:
    """The app password that stands in the block."""
    return lambda: password


def from_secret(secret: AwsSecret) -> AppPassword:
    """The app password in a secret: as plain text, or as JSON with the key `app_password` or `password`.

    It is read anew for each login, so one that was replaced is picked up without a restart.
    """

    def read() -> str:
        found = secret.read()
        if found is None:
            raise InvalidInput(
                "app_password",
                f"the block has none, and there is no {secret.place}.",
                "Fill in the one or create the other.",
            )
        return normal_app_password(_password_in(found[0]))

    return read


def _password_in(text: str) -> str:
    try:
        content = json.loads(text)
    except ValueError:
        if text.lstrip().startswith("{"):  # sent as it is, it would cost a login and be called a wrong app password
            raise InvalidInput("app_password", "the secret's JSON is damaged.", _FORMS) from None
        return text
    if not isinstance(content, dict):
        return text
    password = content.get("app_password") or content.get("password")
    if not isinstance(password, str):
        raise InvalidInput(
            "app_password",
            "the secret's JSON has no text under the key app_password.",
            _FORMS,
        )
    return password
