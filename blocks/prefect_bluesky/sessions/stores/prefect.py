"""A session store in an encrypted `Secret` document of the Prefect API."""

from __future__ import annotations

import json
from hashlib import sha256
from http import HTTPStatus
from typing import Any

import httpx
from prefect.blocks.system import Secret
from prefect.client.schemas.actions import BlockDocumentCreate, BlockDocumentUpdate
from prefect.client.schemas.objects import BlockDocument
from prefect.exceptions import ObjectAlreadyExists, ObjectNotFound, PrefectHTTPStatusError

from prefect_bluesky.errors import StoreConflict, StoreDamaged, StoreError, StoreUnavailable
from prefect_bluesky.prefect_api import API_TROUBLE, api_client, in_server
from prefect_bluesky.sessions.document import SessionDocument
from prefect_bluesky.sessions.stores.base import Saved, SessionStore


class PrefectSessionStore(SessionStore):
    """A store in a `Secret` block document, which the Prefect server encrypts at rest.

    Only the first save is exclusive, because the API has no conditional update. The account's lock protects the later
    saves. If the lock fails, the older refresh token works for two more hours.

    `name` is the document's name: lower-case letters, digits and dashes.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self.place = f"Prefect Secret block {name}"

    def load(self) -> Saved | None:
        found = self._read()
        return None if found is None else self._saved(_value(found, self.place))

    def save(self, document: SessionDocument, replacing: Saved | None) -> Saved:
        text = document.to_json()
        if replacing is None:
            try:
                self._create(text)
            except ValueError as taken:  # Prefect raises a ValueError if the name exists, and never for HTTP trouble
                if self._read() is None:
                    reason = f"the block could not be created ({type(taken).__name__})."
                    is_nonsense = type(taken) is not ValueError  # a proxy's page or JSON in place of the API's answer
                    raise (StoreUnavailable if is_nonsense else StoreError)(self.place, reason) from None
                raise StoreConflict(self.place, "another worker saved first.") from None
            except API_TROUBLE as trouble:
                raise self._trouble(trouble) from None
            return self._saved(text)
        found = self._read()
        if found is None or self._saved(_value(found, self.place)).version != replacing.version:
            raise StoreConflict(self.place, "another worker saved first.")
        try:
            with api_client() as client:
                update = BlockDocumentUpdate(data={"value": text}, merge_existing_data=False)
                client.update_block_document(found.id, update)
        except ObjectNotFound:
            raise StoreConflict(self.place, "the block was deleted between reading and saving.") from None
        except API_TROUBLE as trouble:
            raise self._trouble(trouble) from None
        return self._saved(text)

    def _create(self, text: str) -> None:
        if not in_server():
            Secret(value=text).save(self._name, **_SYNC)
            return
        # A block's own method would start another server here. A server has the type `secret` from its start.
        with api_client() as client:
            kind = client.read_block_type_by_slug("secret")
            schema = client.get_most_recent_block_schema_for_block_type(kind.id)
            if schema is None:
                raise StoreError(self.place, "the server has no schema of the block type secret.")
            new = BlockDocumentCreate(
                name=self._name, data={"value": text}, block_type_id=kind.id, block_schema_id=schema.id
            )
            try:
                client.create_block_document(new)
            except ObjectAlreadyExists:
                raise ValueError(self._name) from None

    def _read(self) -> BlockDocument | None:
        try:
            with api_client() as client:
                return client.read_block_document_by_name(self._name, "secret", include_secrets=True)
        except ObjectNotFound:
            return None
        except API_TROUBLE as trouble:
            raise self._trouble(trouble) from None
        except ValueError as nonsense:  # a proxy's page instead of JSON
            reason = f"the Prefect API's answer is not JSON ({type(nonsense).__name__})."
            raise StoreUnavailable(self.place, reason) from None

    def _saved(self, text: str) -> Saved:
        return Saved(SessionDocument.from_json(text, place=self.place), sha256(text.encode()).hexdigest())

    def _trouble(self, trouble: httpx.TransportError | PrefectHTTPStatusError) -> StoreError:
        if isinstance(trouble, PrefectHTTPStatusError) and _is_refusal(trouble.response):
            return StoreError(self.place, f"the Prefect API answered {trouble.response.status_code}.")
        return StoreUnavailable(self.place, f"the Prefect API gave no usable answer ({type(trouble).__name__}).")


def _is_refusal(answer: httpx.Response) -> bool:
    """Return whether the Prefect API itself refuses a request. What stands before the API answers with a page."""
    is_json = answer.headers.get("content-type", "").startswith("application/json")
    return is_json and answer.status_code < 500 and answer.status_code != HTTPStatus.TOO_MANY_REQUESTS


# Inside an async flow a block's methods return coroutines, even in a thread. This code is always synchronous.
_SYNC: dict[str, Any] = {"_sync": True}


def _value(found: BlockDocument, place: str) -> str:
    value = found.data.get("value")
    # The API returns a JSON text decoded if it was saved in the UI.
    if isinstance(value, dict):
        return json.dumps(value)
    if isinstance(value, str):
        return value
    raise StoreDamaged(place, "value: the value is not a text. Delete the block. The next run then signs in again.")
