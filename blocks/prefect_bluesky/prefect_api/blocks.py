"""Find blocks that a person names by type and name, such as s3-bucket/pictures."""

from __future__ import annotations

import re
from http import HTTPStatus
from typing import Any, TypeVar

from prefect.blocks.core import Block, UnknownBlockType
from prefect.client.schemas.objects import BlockDocument
from prefect.exceptions import PrefectHTTPStatusError
from prefect.utilities.asyncutils import run_coro_as_sync
from pydantic import ValidationError

from prefect_bluesky.errors import InvalidInput
from prefect_bluesky.prefect_api.client import api_client
from prefect_bluesky.validation import explain_validation_error, looks_like_app_password, nearest

B = TypeVar("B", bound=Block)

_SHOWABLE = re.compile(r"[\w./ -]{1,80}")


def load_block(name: str, field: str) -> Any:
    """Return a saved block of any type. `field` is the input that named the block.

    Raises:
        InvalidInput: the block does not exist or is unusable. The message says why and shows no secret.
    """
    shown = block_name(name) or "of that name"
    try:
        return run_coro_as_sync(Block.aload(name))
    except UnknownBlockType:
        reason = f"the block type {shown.partition('/')[0]} is not known here."
        raise InvalidInput(field, reason, "Install the package that provides it.") from None
    except ValueError:
        near = _nearest(name)
        remedy = f"Did you mean {near}?" if near else "Create the block, or name another one."
        raise InvalidInput(field, f"there is no block {shown}.", remedy) from None
    except RuntimeError as unusable:  # Prefect raises it for a missing field and for an unknown one
        cause = unusable.__cause__
        why = explain_validation_error(cause) if isinstance(cause, ValidationError) else "it is damaged"
        raise InvalidInput(field, f"the block {shown} cannot be used: {why}.", "Correct the block.") from None


def given_block(given: object, kind: type[B], field: str) -> B:
    """Return a block that is given as it is, or by the name under which it is saved.

    Args:
        given: the block, or its name: `alice`, or with its type `bluesky-credentials/alice`.
        kind: the type that the block must have.
        field: the input that has the block.

    Raises:
        InvalidInput: this is neither, or the block does not exist or is unusable. The message shows no secret.
    """
    block = load_block(name_with_type(given, kind), field) if isinstance(given, str) and given.strip("/ ") else given
    if isinstance(block, kind):
        return block
    wanted = kind.get_block_type_name()
    what = f"a {block.get_block_type_name()} block" if isinstance(block, Block) else _kind_of(block)
    reason = f"it is {what}, not a {wanted} block."
    raise InvalidInput(field, reason, f"Give a {wanted} block, or the name of a saved one, such as alice.")


def name_with_type(name: str, kind: type[Block]) -> str:
    """Return the name of a saved block with its type: `kind`, if the name has none.

    Example:
        >>> name_with_type("alice", BlueskyCredentials)
        'bluesky-credentials/alice'
    """
    return name if "/" in name else f"{kind.get_block_type_slug()}/{name}"


def block_name(given: str) -> str | None:
    """Return what a person gave as a block's name, or None if it may be a secret in the wrong place."""
    name = given.rpartition("/")[2]
    return given if _SHOWABLE.fullmatch(given) and not looks_like_app_password(name) else None


def read_block_documents(slug: str, *, include_secrets: bool = False) -> list[BlockDocument]:
    """Return all saved blocks of a type. This endpoint takes no limit and no offset."""
    with api_client() as client:
        try:
            return client.read_block_documents_by_type(slug, include_secrets=include_secrets)
        except PrefectHTTPStatusError as refusal:
            if refusal.response.status_code == HTTPStatus.NOT_FOUND:
                return []  # the block type is not registered yet
            raise


def _kind_of(given: object) -> str:
    """Return what a value is, without its content, which may be secret."""
    return "empty" if given is None or given == "" else f"of the type {type(given).__name__}"


def _nearest(name: str) -> str | None:
    """Return the saved block of the same type whose name is nearest, if one is near."""
    slug, _, wanted = name.partition("/")
    names = [document.name for document in read_block_documents(slug) if document.name]
    near = nearest(wanted, names)
    return f"{slug}/{near}" if near else None
