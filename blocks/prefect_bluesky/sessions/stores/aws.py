"""The session in AWS Secrets Manager, replaced by compare-and-swap."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

from prefect_bluesky.errors import StoreConflict, StoreError
from prefect_bluesky.sessions.document import SessionDocument
from prefect_bluesky.sessions.stores.aws_secret import EXISTS, OVERTAKEN, AwsSecret, Refused
from prefect_bluesky.sessions.stores.base import Saved, SessionStore
from prefect_bluesky.settings import current_settings

# One label for all: PutSecretValue moves it from the version before, so versions without a label can be cleaned up.
_PENDING = "prefect-bluesky-pending"
# https://docs.aws.amazon.com/secretsmanager/latest/userguide/reference_limits.html
_MAX_BYTES = 65_536


class AwsSessionStore(SessionStore):
    """Keeps one account's session in a secret of AWS Secrets Manager.

    A new version is first put under a label of its own, then `AWSCURRENT` is moved to it from the version that was
    read. AWS refuses the move if another worker was faster, so no session is ever overwritten unread.

    Args:
        secret: the secret.
    """

    def __init__(self, secret: AwsSecret) -> None:
        self._secret = secret
        self.place = secret.place

    def load(self) -> Saved | None:
        found = self._secret.read()
        if found is None:
            return None
        text, version = found
        return Saved(SessionDocument.from_json(text, place=self.place), version)

    def save(self, document: SessionDocument, replacing: Saved | None) -> Saved:
        text = document.to_json()
        if len(text.encode()) > _MAX_BYTES:
            raise StoreError(self.place, f"the session takes more than the {_MAX_BYTES} bytes that a secret may have.")
        try:
            version = self._create(text) if replacing is None else self._replace(text, replacing.version)
        except Refused as refused:
            raise refused.error from None
        return Saved(document, version)

    def _create(self, text: str) -> str:
        settings = current_settings()
        options: dict[str, Any] = {"KmsKeyId": settings.aws_kms_key_id} if settings.aws_kms_key_id else {}
        if settings.aws_tags:
            options["Tags"] = [{"Key": key, "Value": value} for key, value in settings.aws_tags.items()]
        try:
            created = self._secret.call(
                "create_secret",
                name_key="Name",
                SecretString=text,
                ClientRequestToken=str(uuid4()),
                Description="The Bluesky session of one account; written by prefect-bluesky, not by people.",
                **options,
            )
            return str(created["VersionId"])
        except Refused as refused:
            if refused.code != EXISTS:
                raise
        if self.load() is not None:
            raise StoreConflict(self.place, "another worker saved first.")
        # The secret was made without a value, as Terraform does: the first version becomes the current one by itself.
        put = self._secret.call("put_secret_value", SecretString=text, ClientRequestToken=str(uuid4()))
        return str(put["VersionId"])

    def _replace(self, text: str, read_version: str) -> str:
        put = self._secret.call(
            "put_secret_value", SecretString=text, ClientRequestToken=str(uuid4()), VersionStages=[_PENDING]
        )
        version = str(put["VersionId"])
        try:
            self._secret.call(
                "update_secret_version_stage",
                VersionStage="AWSCURRENT",
                MoveToVersionId=version,
                RemoveFromVersionId=read_version,
            )
        except Refused as refused:
            if refused.code == OVERTAKEN:
                raise StoreConflict(self.place, "another worker saved first.") from None
            raise
        return version
