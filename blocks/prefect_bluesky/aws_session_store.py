"""The session in AWS Secrets Manager, replaced by compare-and-swap."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

from botocore.exceptions import BotoCoreError, ClientError
from prefect_aws import AwsCredentials

from prefect_bluesky.errors import StoreConflict, StoreDamaged, StoreError, StoreUnavailable
from prefect_bluesky.session_store import Saved, SessionDocument, SessionStore

_CURRENT = "AWSCURRENT"
# One label for all: PutSecretValue moves it from the version before, so versions without a label can be cleaned up.
_PENDING = "prefect-bluesky-pending"

# Codes, not statuses: they are the same everywhere
# (https://docs.aws.amazon.com/secretsmanager/latest/apireference/CommonErrors.html).
_PASSING = {
    "InternalFailure",
    "InternalServiceError",
    "RequestTimeout",
    "ServiceUnavailable",
    "Throttling",
    "ThrottlingException",
    "TooManyRequestsException",
}


class AwsSessionStore(SessionStore):
    """Keeps one account's session in a secret of AWS Secrets Manager.

    A new version is first put under a label of its own, then `AWSCURRENT` is moved to it from the version that was
    read. AWS refuses the move if another worker was faster, so no session is ever overwritten unread.

    Args:
        credentials: the prefect-aws block; its client is shared by all accounts.
        name: the secret's name, such as `prefect-bluesky/alice.bsky.social/session`.
    """

    def __init__(self, credentials: AwsCredentials, name: str) -> None:
        self._credentials = credentials
        self._name = name
        self.place = f"AWS secret {name}"

    def load(self) -> Saved | None:
        try:
            # Without the stage, some implementations answer with the version last put.
            found = self._call("get_secret_value", VersionStage=_CURRENT)
        except _Refused as refused:
            if refused.code == "ResourceNotFoundException":
                return None
            raise self._error(refused) from None
        text = found.get("SecretString")
        if not isinstance(text, str):
            raise StoreDamaged(
                self.place, "SecretString: it is missing. Delete the secret: the next run signs in anew."
            )
        return Saved(SessionDocument.from_json(text, place=self.place), found["VersionId"])

    def save(self, document: SessionDocument, replacing: Saved | None) -> Saved:
        text = document.to_json()
        try:
            version = self._create(text) if replacing is None else self._replace(text, replacing.version)
        except _Refused as refused:
            raise self._error(refused) from None
        return Saved(document, version)

    def _create(self, text: str) -> str:
        try:
            created = self._call(
                "create_secret",
                name_key="Name",
                SecretString=text,
                ClientRequestToken=str(uuid4()),
                Description="The Bluesky session of one account; written by prefect-bluesky, not by people.",
            )
            return str(created["VersionId"])
        except _Refused as refused:
            if refused.code != "ResourceExistsException":
                raise
        if self.load() is not None:
            raise StoreConflict(self.place, "another worker saved first.")
        # The secret was made without a value, as Terraform does: the first version becomes the current one by itself.
        return str(self._call("put_secret_value", SecretString=text, ClientRequestToken=str(uuid4()))["VersionId"])

    def _replace(self, text: str, read_version: str) -> str:
        put = self._call(
            "put_secret_value", SecretString=text, ClientRequestToken=str(uuid4()), VersionStages=[_PENDING]
        )
        version = str(put["VersionId"])
        try:
            self._call(
                "update_secret_version_stage",
                VersionStage=_CURRENT,
                MoveToVersionId=version,
                RemoveFromVersionId=read_version,
            )
        except _Refused as refused:
            if refused.code == "InvalidParameterException":
                raise StoreConflict(self.place, "another worker saved first.") from None
            raise
        return version

    def _call(self, operation: str, *, name_key: str = "SecretId", **parameters: Any) -> dict[str, Any]:
        try:
            client = self._credentials.get_secrets_manager_client()
            answer: dict[str, Any] = getattr(client, operation)(**{name_key: self._name}, **parameters)
        except ClientError as refused:
            raise _Refused(refused) from None
        except BotoCoreError as trouble:
            raise StoreUnavailable(self.place, f"AWS gave no answer ({type(trouble).__name__}).") from None
        return answer

    def _error(self, refused: _Refused) -> StoreError:
        kind = StoreUnavailable if refused.code in _PASSING else StoreError
        return kind(self.place, f"AWS refused {refused.operation}: {refused.code}: {refused.message}")


class _Refused(Exception):
    """A ClientError by its code."""

    def __init__(self, error: ClientError) -> None:
        said = error.response.get("Error", {})
        self.code = said.get("Code", "")
        self.message = said.get("Message", "")
        self.operation = error.operation_name
