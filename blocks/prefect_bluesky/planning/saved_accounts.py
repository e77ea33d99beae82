"""The accounts that are saved as blocks in Prefect."""

from __future__ import annotations

from collections.abc import Callable, Collection
from functools import partial
from http import HTTPStatus
from typing import Any, TypeVar

from prefect.blocks.core import Block, UnknownBlockType
from prefect.client.schemas.objects import BlockDocument
from prefect.exceptions import PrefectHTTPStatusError

from prefect_bluesky.credentials import BlueskyCredentials
from prefect_bluesky.errors import BlueskyError
from prefect_bluesky.prefect_api import api_client

T = TypeVar("T")


def saved_names() -> list[str]:
    """The names of all saved `BlueskyCredentials` blocks, in alphabetical order."""
    return sorted(document.name for document in _documents(include_secrets=False) if document.name)


def load(name: str) -> BlueskyCredentials:
    """A saved block.

    Args:
        name: its name.

    Raises:
        ValueError: there is none, or what it holds cannot be used.
        InvalidInput: as `BlueskyCredentials`.
    """
    return _loaded({"block_document_slug": name})


def load_many(names: Collection[str]) -> dict[str, BlueskyCredentials | BlueskyError | ValueError]:
    """Saved blocks by their names, each as `load` returns it, or with what `load` would raise.

    Args:
        names: which.
    """
    if len(names) < _MANY:
        return {name: _or_why_not(load, name) for name in names}
    # A request for each would cost the server 26 ms of CPU, and all in one 2 ms each.
    saved = {document.name: document for document in _documents(include_secrets=True)}
    return {name: _or_why_not(_from_document, saved[name]) if name in saved else _missing(name) for name in names}


_MANY = 20


def as_parameter(credentials: BlueskyCredentials) -> dict[str, Any]:
    """A saved block as what a run is given: a reference, so that the run has no secret and can be repeated.

    Args:
        credentials: the block, as `load` returned it.
    """
    return {"$ref": {"block_document_id": str(credentials._block_document_id)}}  # noqa: SLF001 (Prefect's own)


def load_parameter(parameter: Any) -> BlueskyCredentials:
    """Return the block that a run was given, as it is saved now.

    Args:
        parameter: what the run has among its parameters: a reference to a saved block, or, if the block was passed as
            an object, the object's fields with the secrets masked. Then a saved block with the same handle and the
            same service serves.

    Raises: as `load`.
    """
    if isinstance(parameter, dict) and "$ref" in parameter:
        return _loaded(parameter["$ref"])
    fields = parameter if isinstance(parameter, dict) else {}
    account, service = fields.get("handle"), fields.get("service_url")
    found = find_saved(account, service)
    if found is None:
        place = f" at {service}" if service else ""
        raise ValueError(f"The run was started without a saved block, and none is saved for {account}{place}.")
    return found


def find_saved(account: str | None, service_url: str | None) -> BlueskyCredentials | None:
    """Return the first saved block of an account, by the blocks' names.

    Args:
        account: the handle or DID, as the block has it.
        service_url: where the account signs in; None for any service.
    """
    for block in load_many(saved_names()).values():
        # A block that cannot be loaded is not the one.
        if isinstance(block, BlueskyCredentials) and (block.handle, service_url or block.service_url) == (
            account,
            block.service_url,
        ):
            return block
    return None


def _documents(*, include_secrets: bool) -> list[BlockDocument]:
    """All saved blocks: this endpoint takes no limit and no offset."""
    with api_client() as client:
        try:
            return client.read_block_documents_by_type(
                BlueskyCredentials.get_block_type_slug(), include_secrets=include_secrets
            )
        except PrefectHTTPStatusError as refusal:
            if refusal.response.status_code == HTTPStatus.NOT_FOUND:
                return []  # nobody has registered the block yet
            raise


def _loaded(reference: Any) -> BlueskyCredentials:
    # By its id it may be one of a type that somebody has derived.
    load: Any = (BlueskyCredentials if "block_document_slug" in reference else Block).load_from_ref
    # Always synchronously, in an async flow too.
    return _usable(partial(load, reference, _sync=True))


def _from_document(document: BlockDocument) -> BlueskyCredentials:
    return _usable(partial(BlueskyCredentials._load_from_block_document, document))  # noqa: SLF001 (Prefect's own)


def _usable(load: Callable[[], Any]) -> BlueskyCredentials:
    try:
        block = load()
    except UnknownBlockType:
        raise ValueError("the saved block is of a type that is not installed here") from None
    except RuntimeError as unusable:  # what Prefect makes of a field that is missing, or one too many
        raise ValueError(f"the saved block cannot be used: {unusable.__cause__ or unusable}") from None
    if not isinstance(block, BlueskyCredentials):
        raise ValueError(f"the saved block is a {block.get_block_type_name()}")  # noqa: TRY004 (a value is what it is)
    return block


def _missing(name: str) -> ValueError:
    return ValueError(f"Unable to find block document named {name} for block type bluesky-credentials")


def _or_why_not(load: Callable[[T], BlueskyCredentials], what: T) -> BlueskyCredentials | BlueskyError | ValueError:
    try:
        return load(what)
    except (BlueskyError, ValueError) as unusable:
        return unusable
