"""A secret of AWS Secrets Manager, and the meaning of AWS's refusals."""

from __future__ import annotations

from dataclasses import dataclass
from threading import Lock
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError
from botocore.exceptions import ConnectionError as AwsConnectionError
from prefect_aws import AwsCredentials

from prefect_bluesky.errors import StoreDenied, StoreError, StorePendingDeletion, StoreUnavailable

MISSING = "ResourceNotFoundException"
EXISTS = "ResourceExistsException"
OVERTAKEN = "InvalidParameterException"

# Codes rather than statuses, as the statuses may differ
# (https://docs.aws.amazon.com/secretsmanager/latest/apireference/CommonErrors.html).
# fmt: off
_TEMPORARY = {
    "InternalFailure", "InternalServiceError", "RequestTimeout", "ServiceUnavailable", "Throttling",
    "ThrottlingException", "TooManyRequestsException",
}
_DENIED = {
    "AccessDeniedException", "DecryptionFailure", "EncryptionFailure", "ExpiredTokenException", "IncompleteSignature",
    "InvalidClientTokenId", "MissingAuthenticationToken", "NotAuthorized", "OptInRequired",
    "UnrecognizedClientException",
}
# fmt: on

_making_client = Lock()
"""Prefect-aws keeps its client. Without the lock, each thread that asks before then makes another: 0.3 s of CPU."""


class Refused(Exception):
    """A refusal by AWS: the error code for callers that handle it, and the error to raise otherwise."""

    def __init__(self, code: str, error: StoreError) -> None:
        super().__init__(code)
        self.code = code
        self.error = error


@dataclass(frozen=True)
class AwsSecret:
    """A secret by its name, such as `prefect-bluesky/alice.bsky.social/session`. All accounts share one AWS client."""

    credentials: AwsCredentials
    name: str

    @property
    def place(self) -> str:
        """The secret's name in messages."""
        return f"AWS secret {self.name}"

    def read(self) -> tuple[str, str] | None:
        """Return the current value and its version, or None if there is no secret or no value yet.

        Raises:
            StoreError: AWS refuses; see the subclasses of `StoreError`.
        """
        try:
            # Without the stage, some implementations answer with the version that was put last.
            found = self.call("get_secret_value", VersionStage="AWSCURRENT")
        except Refused as refused:
            if refused.code == MISSING:
                return None
            raise refused.error from None
        text = found.get("SecretString")
        return (text if isinstance(text, str) else ""), str(found["VersionId"])

    def call(self, operation: str, *, name_key: str = "SecretId", **parameters: Any) -> dict[str, Any]:
        """Call an operation of Secrets Manager for this secret.

        Raises:
            Refused: AWS answered with an error.
            StoreUnavailable: AWS did not answer, or something else answered.
            StoreDenied: there are no usable AWS credentials.
        """
        try:
            with _making_client:
                client = self.credentials.get_secrets_manager_client()
            answer: dict[str, Any] = getattr(client, operation)(**{name_key: self.name}, **parameters)
        except ClientError as refusal:
            raise self._refused(refusal) from None
        except (HTTPClientError, AwsConnectionError) as trouble:
            raise StoreUnavailable(self.place, f"AWS gave no answer ({type(trouble).__name__}).") from None
        except BotoCoreError as lack:  # no credentials, no region, no such profile
            raise StoreDenied(self.place, f"AWS cannot be called: {lack}") from None
        if "ARN" not in answer:  # botocore turns a proxy's page into an empty answer
            raise StoreUnavailable(self.place, "the server that answered is not AWS. Check the proxy settings.")
        return answer

    def _refused(self, refusal: ClientError) -> Refused:
        said = refusal.response.get("Error", {})
        code, message = said.get("Code", ""), said.get("Message", "")
        if not code or code.isdigit():  # botocore puts the status in place of a name that is missing
            status = refusal.response.get("ResponseMetadata", {}).get("HTTPStatusCode")
            reason = f"something before AWS answered {refusal.operation_name} with {status}. Check the network."
            return Refused(code, StoreUnavailable(self.place, reason))
        kind: type[StoreError] = StoreError
        if code in _TEMPORARY or refusal.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0) >= 500:
            kind = StoreUnavailable
        elif code in _DENIED:
            kind = StoreDenied
        elif code == "InvalidRequestException" and "delet" in message:
            kind = StorePendingDeletion
        return Refused(code, kind(self.place, f"AWS refused {refusal.operation_name}: {code}: {message}"))
