"""The accounts that are saved as blocks in Prefect."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from prefect.exceptions import ObjectNotFound

from prefect_bluesky.api import api_client
from prefect_bluesky.credentials import BlueskyCredentials
from prefect_bluesky.errors import BlueskyError


def saved_names() -> list[str]:
    """The names of all saved `BlueskyCredentials` blocks, in alphabetical order."""
    with api_client() as client:
        try:
            # All of them: this endpoint takes no limit and no offset.
            documents = client.read_block_documents_by_type(
                BlueskyCredentials.get_block_type_slug(), include_secrets=False
            )
        except ObjectNotFound:
            return []  # nobody has registered the block yet
    return sorted(document.name for document in documents if document.name)


def load(name: str) -> BlueskyCredentials:
    """A saved block.

    Args:
        name: its name.

    Raises:
        ValueError: there is none, or what it holds cannot be used.
        InvalidInput: as `BlueskyCredentials`.
    """
    return _loaded({"block_document_slug": name})


def as_parameter(credentials: BlueskyCredentials) -> dict[str, Any]:
    """A saved block as what a run is given: a reference, so that the run has no secret and can be repeated.

    Args:
        credentials: the block, as `load` returned it.
    """
    return {"$ref": {"block_document_id": str(credentials._block_document_id)}}  # noqa: SLF001 (Prefect's own)


def load_parameter(parameter: Any) -> BlueskyCredentials:
    """The block that a run was given, as it is saved now.

    Args:
        parameter: what the run has among its parameters: a reference; or, where the block was passed as an object, its
            fields, with the secrets masked. Then a saved block of the same account serves.

    Raises: as `load`.
    """
    if isinstance(parameter, dict) and "$ref" in parameter:
        return _loaded(parameter["$ref"])
    account = parameter.get("handle") if isinstance(parameter, dict) else None
    for name in saved_names():
        # One that cannot be loaded is not the one.
        with suppress(BlueskyError, ValueError):
            block = load(name)
            if block.handle == account:
                return block
    raise ValueError(f"The run was started without a saved block, and none is saved for {account}.")


def _loaded(reference: Any) -> BlueskyCredentials:
    loaded: Any = BlueskyCredentials.load_from_ref
    try:
        # Always synchronously, in an async flow too.
        block: BlueskyCredentials = loaded(reference, _sync=True)
    except RuntimeError as unusable:  # what Prefect makes of a field that is missing, or one too many
        raise ValueError(f"the saved block cannot be used: {unusable.__cause__ or unusable}") from None
    return block
