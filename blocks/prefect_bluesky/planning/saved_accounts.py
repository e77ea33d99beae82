"""Accounts that are saved as blocks in Prefect."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from functools import partial
from typing import Any, TypeVar

from prefect.blocks.core import Block, UnknownBlockType
from prefect.client.schemas.objects import BlockDocument
from prefect.exceptions import ObjectNotFound

from prefect_bluesky.credentials import BlueskyCredentials
from prefect_bluesky.errors import BlueskyError
from prefect_bluesky.prefect_api import read_block_documents
from prefect_bluesky.validation import nearest

T = TypeVar("T")


def saved_names() -> list[str]:
    """Return the names of all saved `BlueskyCredentials` blocks, in alphabetical order."""
    return sorted(document.name for document in _documents(include_secrets=False) if document.name)


def saved_parameters() -> dict[str, dict[str, Any]]:
    """Return runs' parameters for all saved blocks, as `as_parameter` makes them, by the blocks' names."""
    documents = _documents(include_secrets=False)
    return {document.name: _as_reference(document.id) for document in documents if document.name}


def load(name: str) -> BlueskyCredentials:
    """Return the saved block of a name.

    Raises:
        ValueError: there is no such block, or its content cannot be used.
        InvalidInput: as `BlueskyCredentials`.
    """
    try:
        return _loaded({"block_document_slug": name})
    except ValueError as unusable:
        if not isinstance(unusable.__cause__, ObjectNotFound):
            raise
    raise ValueError(not_saved(name, saved_names()))


def not_saved(name: str, names: Iterable[str]) -> str:
    """Return what is said of a block that is not among the saved ones."""
    near = nearest(name, names)
    return f"no block {name} is saved. {f'Did you mean {near}?' if near else 'Save it.'}"


def load_many(names: Collection[str]) -> dict[str, BlueskyCredentials | BlueskyError | ValueError]:
    """Return saved blocks by their names, with the error that `load` would raise in place of a block."""
    if len(names) < _MANY:
        return {name: _or_why_not(load, name) for name in names}
    # A request per block costs the server 26 ms of CPU; one request for all costs 2 ms per block.
    saved = {document.name: document for document in _documents(include_secrets=True) if document.name}
    return {
        name: _or_why_not(_from_document, saved[name]) if name in saved else ValueError(not_saved(name, sorted(saved)))
        for name in names
    }


_MANY = 20


def load_parameters(parameters: Collection[Any]) -> list[BlueskyCredentials | BlueskyError | ValueError]:
    """Return the blocks in runs' parameters in that order, with the error that `load_parameter` would raise."""
    names = {_reference(each): each for each in parameters}
    saved: dict[str, BlockDocument] = {}
    if len(names) >= _MANY:
        saved = {f"{document.id}": document for document in _documents(include_secrets=True)}
    loaded = {
        name: _or_why_not(_from_document, saved[name]) if name in saved else _or_why_not(load_parameter, each)
        for name, each in names.items()
    }
    return [loaded[_reference(each)] for each in parameters]


def _reference(parameter: Any) -> str:
    """Return the id of the block that a parameter refers to, or what else tells parameters apart."""
    reference = parameter.get("$ref") if isinstance(parameter, dict) else None
    return str(reference["block_document_id"] if reference and "block_document_id" in reference else parameter)


def as_parameter(credentials: BlueskyCredentials) -> dict[str, Any]:
    """Return a run's parameter for a saved block: a reference, so that the run has no secret and can be repeated."""
    return _as_reference(credentials._block_document_id)  # noqa: SLF001 (Prefect's own)


def _as_reference(document: Any) -> dict[str, Any]:
    return {"$ref": {"block_document_id": str(document)}}


def load_parameter(parameter: Any) -> BlueskyCredentials:
    """Return the block in a run's parameter, as saved now.

    The parameter is a reference to a saved block. If the block was passed as an object, the parameter has its fields
    with masked secrets: then return a saved block with the same handle and the same service.

    Raises: as `load`.
    """
    if isinstance(parameter, dict) and "$ref" in parameter:
        return _loaded(parameter["$ref"])
    fields = parameter if isinstance(parameter, dict) else {}
    account, service = fields.get("handle"), fields.get("service_url")
    if found := find_saved(account, service):
        return found
    place = f" at {service}" if service else ""
    raise ValueError(f"The run was started without a saved block, and no block is saved for {account}{place}.")


def find_saved(account: str | None, service_url: str | None) -> BlueskyCredentials | None:
    """Return the first block, by name, of an account (handle or DID as in the block) at a service (None: any)."""
    # Blocks that cannot be loaded are errors here.
    blocks = [block for block in load_many(saved_names()).values() if isinstance(block, BlueskyCredentials)]
    ours = (block for block in blocks if block.handle == account and service_url in {None, "", block.service_url})
    return next(ours, None)


def _documents(*, include_secrets: bool) -> list[BlockDocument]:
    return read_block_documents(BlueskyCredentials.get_block_type_slug(), include_secrets=include_secrets)


def _loaded(reference: Any) -> BlueskyCredentials:
    # A block that is loaded by id may be of a derived type.
    load: Any = (BlueskyCredentials if "block_document_slug" in reference else Block).load_from_ref
    # Load synchronously even in an async flow.
    return _usable(partial(load, reference, _sync=True))


def _from_document(document: BlockDocument) -> BlueskyCredentials:
    return _usable(partial(BlueskyCredentials._load_from_block_document, document))  # noqa: SLF001 (Prefect's own)


def _usable(load: Callable[[], Any]) -> BlueskyCredentials:
    try:
        block = load()
    except UnknownBlockType:
        raise ValueError("the type of the saved block is not installed here") from None
    except RuntimeError as unusable:  # Prefect raises this for a missing or an unknown field
        raise ValueError(f"the saved block cannot be used: {unusable.__cause__ or unusable}") from None
    if not isinstance(block, BlueskyCredentials):
        raise ValueError(f"the saved block is a {block.get_block_type_name()}")  # noqa: TRY004 (a value is what it is)
    return block


def _or_why_not(load: Callable[[T], BlueskyCredentials], what: T) -> BlueskyCredentials | BlueskyError | ValueError:
    try:
        return load(what)
    except (BlueskyError, ValueError) as unusable:
        return unusable
