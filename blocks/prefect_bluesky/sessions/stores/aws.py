"""The session in AWS Secrets Manager, replaced by compare-and-swap."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

from prefect_bluesky.errors import StoreConflict, StoreError
from prefect_bluesky.sessions.document import SessionDocument
from prefect_bluesky.sessions.stores.aws_secret import EXISTS, OVERTAKEN, AwsSecret, Refused
from prefect_bluesky.sessions.stores.base import Saved, SessionStore
from prefect_bluesky.settings import current_settings

# One label for all versions: PutSecretValue moves the label from the previous version. AWS deletes unlabelled versions.
_PENDING = "prefect-bluesky-pending"
# https://docs.aws.amazon.com/secretsmanager/latest/userguide/reference_limits.html
_MAX_BYTES = 65_536


class AwsSessionStore(SessionStore):
    """A store in AWS Secrets Manager: one secret for each account.

    `save` first puts a new version under a separate label. Then `save` moves `AWSCURRENT` to the new version from the
    version that was read. AWS refuses the move if another worker saved first, so no session is overwritten unread.
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
            raise StoreError(self.place, f"the session is larger than {_MAX_BYTES} bytes, the limit for a secret.")
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
                Description="The Bluesky session of one account, written by prefect-bluesky. Do not edit.",
                **options,
            )
            return str(created["VersionId"])
        except Refused as refused:
            if refused.code != EXISTS:
                raise
        if self.load() is not None:
            raise StoreConflict(self.place, "another worker saved first.")
        # The secret exists without a value, as Terraform creates it. AWS makes the first version the current one.
        put = self._secret.call("put_secret_value", SecretString=text, ClientRequestToken=str(uuid4()))
        return str(put["VersionId"])

    def _replace(self, text: str, read_version: str) -> str:
        put = self._secret.call(
            "put_secret_value", SecretString=text, ClientRequestToken=str(uuid4()), VersionStages=[_PENDING]
        )
        version = str(put["VersionId"])
        try:
            move = {"VersionStage": "AWSCURRENT", "MoveToVersionId": version, "RemoveFromVersionId": read_version}
            self._secret.call("update_secret_version_stage", **move)
        except Refused as refused:
            if refused.code == OVERTAKEN:
                raise StoreConflict(self.place, "another worker saved first.") from None
            raise
        return version
