"""The causes of a failed sign-in, each with its name, explanation and remedy."""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from typing import Self


class AuthProblem(StrEnum):
    """One named cause of a failed authentication.

    The value is the name in events, results and JSON. `explanation` and `remedy` are sentences for people.

    Example:
        >>> AuthProblem.APP_PASSWORD_REJECTED.value
        'app_password_rejected'
        >>> AuthProblem.APP_PASSWORD_REJECTED.remedy
        'Create a new app password under Settings > Privacy and security > App passwords and put it into the block.'
    """

    explanation: str
    remedy: str

    def __new__(cls, value: str, explanation: str, remedy: str) -> Self:
        problem = str.__new__(cls, value)
        problem._value_ = value
        problem.explanation = explanation
        problem.remedy = remedy
        return problem

    ACCESS_TOKEN_EXPIRED = (
        "access_token_expired",
        "The access token has expired. Access tokens expire after two hours.",
        "Nothing to do: the next publish refreshes it.",
    )
    REFRESH_TOKEN_EXPIRED = (
        "refresh_token_expired",
        "The refresh token has expired. Refresh tokens expire after 90 days without a publish.",
        "Nothing to do: the next publish signs in again.",
    )
    SESSION_REVOKED = (
        "session_revoked",
        "The server has ended this session: the account's password was changed, or the session was signed out.",
        "The next publish signs in again, unless the app password was revoked too. To test the app password now, run:"
        " prefect-bluesky diagnose --log-in.",
    )
    APP_PASSWORD_REJECTED = (
        "app_password_rejected",
        "The server does not accept this app password for this account: it was revoked, mistyped, or belongs to another"
        " account.",
        "Create a new app password under Settings > Privacy and security > App passwords and put it into the block.",
    )
    APP_PASSWORD_REVOKED = (
        "app_password_revoked",
        "The app password worked before and is now refused: it was revoked.",
        "Create a new app password under Settings > Privacy and security > App passwords and put it into the block.",
    )
    MAIN_PASSWORD_USED = (
        "main_password_used",
        "The block holds the account's main password, which gives full access and cannot be revoked separately.",
        "Create an app password under Settings > Privacy and security > App passwords and put it into the block.",
    )
    SIGN_IN_CODE_REQUIRED = (
        "sign_in_code_required",
        "The server asks for the sign-in code that it sent by e-mail, because the block holds the main password.",
        "Put an app password into the block instead of the main password.",
    )
    WRONG_ACCOUNT = (
        "wrong_account",
        "The handle, the app password or the stored session belongs to another account (another DID) than the one that"
        " this block was used for before.",
        "Check the handle and the app password. If the handle was deliberately given to a new account, delete the"
        " stored session first.",
    )
    HANDLE_NOT_FOUND = (
        "handle_not_found",
        "No account has this handle: the handle is misspelt, or the account has changed its handle.",
        "Copy the handle from the account's profile into the block, or use the account's DID.",
    )
    WRONG_SERVICE = (
        "wrong_service",
        "The account does not sign in at the service that the block names.",
        "Put the account's own service into service_url: https://bsky.social, or the URL of its PDS.",
    )
    ACCOUNT_MOVED = (
        "account_moved",
        "The account has moved to another PDS.",
        "Put the new PDS into service_url, and an app password created there into app_password. With a grant, let the"
        " owner grant access again: prefect-bluesky authorize.",
    )
    MALFORMED_HEADER = (
        "malformed_header",
        "The Authorization header does not have the form 'Bearer TOKEN': it has a quote, a space or a second scheme.",
        "Delete the stored session. The next run signs in again and builds the header itself.",
    )
    MALFORMED_TOKEN = (
        "malformed_token",
        "A token of this session is damaged: it is not a token, or its signature is wrong.",
        "Delete the stored session. The next run signs in again.",
    )
    WRONG_TOKEN_TYPE = (
        "wrong_token_type",
        "A refresh token was sent in place of the access token, or the other way round.",
        "Delete the stored session. The next run signs in again.",
    )
    GRANT_MISSING = (
        "grant_missing",
        "No person has granted access to this account yet.",
        "Let the account's owner grant access: prefect-bluesky authorize, or the deployment authorize.",
    )
    GRANT_EXPIRED = (
        "grant_expired",
        "The grant has reached the end of its time: two years, two weeks for a client without a folder on the web, or"
        " three months without a refresh.",
        "Let the account's owner grant access again: prefect-bluesky authorize, or the deployment authorize.",
    )
    GRANT_REVOKED = (
        "grant_revoked",
        "The grant was ended before its time: the account's owner has revoked it, or the server has.",
        "Ask the account's owner. If it was not meant, let the owner grant access again: prefect-bluesky authorize, or"
        " the deployment authorize.",
    )
    REFRESH_REPLAYED = (
        "refresh_replayed",
        "A refresh token of the grant was used twice, or the answer to its only use was lost. A server then ends the"
        " session. Two Prefect servers have the same session, its store was restored, a worker has died while it"
        " refreshed, or somebody has a copy.",
        "Let the account's owner grant access again: prefect-bluesky authorize, or the deployment authorize. If"
        " somebody may have a copy, run prefect-bluesky authorize --revoke first.",
    )
    CLIENT_REFUSED = (
        "client_refused",
        "The account's server does not accept this OAuth client: its key is not in the client's document.",
        "Put the key that the session was granted to back into the client's document. The session waits for it.",
    )
    CLIENT_UNREADABLE = (
        "client_unreadable",
        "The account's server cannot read the document of the OAuth client.",
        "Make the client's document readable at its URL again. The session waits for it.",
    )
    PROOF_REFUSED = (
        "proof_refused",
        "The account's server does not accept the proofs by which a grant is used: it asks for its nonce, or finds"
        " their time wrong, again and again.",
        "Look at what is between this machine and the server: a proxy must pass the headers DPoP, DPoP-Nonce and"
        " Date. Set this machine's clock (NTP).",
    )
    INSUFFICIENT_SCOPE = (
        "insufficient_scope",
        "The session does not have the permission for this action.",
        "With a grant, add the right to the block of the OAuth client, put the client's new files on the web, and let"
        " the owner grant access again: prefect-bluesky authorize. Else use an app password that has the permission, or"
        " let a person do it in the app.",
    )
    ACCOUNT_DEACTIVATED = ("account_deactivated", "The account is deactivated.", "Reactivate it in the Bluesky app.")
    ACCOUNT_TAKEN_DOWN = (
        "account_taken_down",
        "The moderators of the account's server have taken the account down.",
        "Sign in to the Bluesky app with the main password to read the reason and to appeal.",
    )
    ACCOUNT_DELETED = (
        "account_deleted",
        "The account has been deleted.",
        "Delete the block, or put another account into it.",
    )
    LOGIN_LIMIT_REACHED = (
        "login_limit_reached",
        "The account has used up its logins for now. Further logins would lock its owner out of the app too.",
        "Wait a day. If the problem returns, find out why the session ends: prefect-bluesky diagnose.",
    )
    CLOCK_DRIFT = (
        "clock_drift",
        "This machine's clock differs from the server's clock by minutes.",
        "Set the clock (NTP). Publishing continues meanwhile: token expiry is counted from the time of receipt.",
    )
    SERVICE_UNAVAILABLE = (
        "service_unavailable",
        "The server does not answer, answers with an internal error, or something before the server answers.",
        "Nothing is lost: posts wait and are sent again. If this lasts, check service_url, and that the network and its"
        " firewalls let this machine reach the server.",
    )
    STORE_UNREADABLE = (
        "store_unreadable",
        "The stored session cannot be read: it is damaged, it is other data, or a later version of prefect-bluesky"
        " wrote it.",
        "If a later version is in use, upgrade this one. Otherwise change secret_prefix in the block, or delete the"
        " stored data: the next run signs in again.",
    )
    STORE_DENIED = (
        "store_denied",
        "The session store refuses access.",
        "Give the AWS credentials the permissions in deployments/iam-policy.json, including those for the KMS key.",
    )
    STORE_UNAVAILABLE = (
        "store_unavailable",
        "The session store does not answer, or throttles requests.",
        "Nothing to do: the request is retried.",
    )
    SECRET_PENDING_DELETION = (
        "secret_pending_deletion",
        "The secret that holds the session is scheduled for deletion.",
        "Restore it (aws secretsmanager restore-secret), or delete it immediately (--force-delete-without-recovery).",
    )


def root_cause(problems: Iterable[AuthProblem | None]) -> AuthProblem | None:
    """Return the problem that explains the others, or None if there is none.

    Example:
        >>> root_cause([AuthProblem.APP_PASSWORD_REJECTED, None, AuthProblem.ACCOUNT_MOVED]).value
        'account_moved'
    """
    found = set(problems)
    return next((problem for problem in _BY_DEPTH if problem in found), None)


def classify(*, error: str | None, message: str | None) -> AuthProblem | None:
    """Return the problem that a server's XRPC `error` and `message` name, or None if they are not about authentication.

    The HTTP status is useless here: a PDS answers an expired token with 400 and a foreign repository with 401.
    """
    return _BY_MESSAGE.get((error, message)) or _BY_ERROR.get(error)


def is_token_refusal(*, error: str | None, message: str | None) -> bool:
    """Return whether a refusal is about the token itself, so that another token may be accepted."""
    return error in {"ExpiredToken", "InvalidToken", "invalid_token"} and message != "Bad token scope"


def problem_of_status(status: str) -> AuthProblem:
    """Return the problem of an inactive account from the `status` that a server sends with `"active": false`."""
    return {
        "takendown": AuthProblem.ACCOUNT_TAKEN_DOWN,
        "suspended": AuthProblem.ACCOUNT_TAKEN_DOWN,
        "deleted": AuthProblem.ACCOUNT_DELETED,
    }.get(status, AuthProblem.ACCOUNT_DEACTIVATED)


# An earlier problem explains the later ones.
# fmt: off
_BY_DEPTH = [
    AuthProblem.STORE_UNAVAILABLE, AuthProblem.STORE_DENIED, AuthProblem.SECRET_PENDING_DELETION,
    AuthProblem.STORE_UNREADABLE, AuthProblem.MALFORMED_HEADER, AuthProblem.WRONG_TOKEN_TYPE, AuthProblem.WRONG_SERVICE,
    AuthProblem.WRONG_ACCOUNT, AuthProblem.ACCOUNT_MOVED, AuthProblem.ACCOUNT_TAKEN_DOWN,
    AuthProblem.ACCOUNT_DEACTIVATED, AuthProblem.ACCOUNT_DELETED, AuthProblem.HANDLE_NOT_FOUND,
    AuthProblem.SERVICE_UNAVAILABLE, AuthProblem.LOGIN_LIMIT_REACHED, AuthProblem.SIGN_IN_CODE_REQUIRED,
    AuthProblem.APP_PASSWORD_REVOKED, AuthProblem.APP_PASSWORD_REJECTED, AuthProblem.CLIENT_UNREADABLE,
    AuthProblem.CLIENT_REFUSED, AuthProblem.PROOF_REFUSED, AuthProblem.REFRESH_REPLAYED, AuthProblem.GRANT_EXPIRED,
    AuthProblem.GRANT_REVOKED, AuthProblem.GRANT_MISSING, AuthProblem.MALFORMED_TOKEN,
    AuthProblem.INSUFFICIENT_SCOPE, AuthProblem.SESSION_REVOKED, AuthProblem.REFRESH_TOKEN_EXPIRED,
    AuthProblem.ACCESS_TOKEN_EXPIRED, AuthProblem.MAIN_PASSWORD_USED, AuthProblem.CLOCK_DRIFT,
]
# fmt: on

# tests/contract/test_answers.py checks these bodies on a PDS. If both tables have an error, the message decides.
_BY_MESSAGE: dict[tuple[str | None, str | None], AuthProblem] = {
    ("ExpiredToken", "Token has been revoked"): AuthProblem.SESSION_REVOKED,
    ("InvalidToken", "Bad token scope"): AuthProblem.INSUFFICIENT_SCOPE,
    ("InvalidToken", "Malformed authorization header"): AuthProblem.MALFORMED_HEADER,
    ("InvalidToken", "Unexpected authorization type"): AuthProblem.MALFORMED_HEADER,
    ("InvalidToken", "Invalid token type"): AuthProblem.WRONG_TOKEN_TYPE,
    ("AuthenticationRequired", "Invalid identifier or password"): AuthProblem.APP_PASSWORD_REJECTED,
}
_BY_ERROR: dict[str | None, AuthProblem] = {
    "ExpiredToken": AuthProblem.ACCESS_TOKEN_EXPIRED,
    "InvalidToken": AuthProblem.MALFORMED_TOKEN,
    "AuthMissing": AuthProblem.MALFORMED_HEADER,
    "AuthenticationRequired": AuthProblem.WRONG_ACCOUNT,
    "AuthFactorTokenRequired": AuthProblem.SIGN_IN_CODE_REQUIRED,
    "AccountDeactivated": AuthProblem.ACCOUNT_DEACTIVATED,
    "AccountTakedown": AuthProblem.ACCOUNT_TAKEN_DOWN,
    "AccountNotFound": AuthProblem.ACCOUNT_DELETED,
    "ScopeMissingError": AuthProblem.INSUFFICIENT_SCOPE,
    "invalid_token": AuthProblem.ACCESS_TOKEN_EXPIRED,
    "use_dpop_nonce": AuthProblem.PROOF_REFUSED,
    "invalid_dpop_proof": AuthProblem.PROOF_REFUSED,
}


_WITHOUT_BLOCK = {
    "put it into the block": "set BLUESKY_APP_PASSWORD to it",
    "Put an app password into the block instead of the main password": "Set BLUESKY_APP_PASSWORD to an app password",
    "The block holds the account's main password": "BLUESKY_APP_PASSWORD is the account's main password",
    "because the block holds the main password": "because BLUESKY_APP_PASSWORD is the main password",
    "into the block": "into BLUESKY_HANDLE",
    "that the block names": "that BLUESKY_SERVICE_URL names",
}


def without_block(text: str) -> str:
    """Return an explanation or a remedy in the words of an account that comes from the environment, not from a block.

    Example:
        >>> without_block("Create a new app password and put it into the block.")
        'Create a new app password and set BLUESKY_APP_PASSWORD to it.'
    """
    for written, instead in _WITHOUT_BLOCK.items():
        text = text.replace(written, instead)
    return text
