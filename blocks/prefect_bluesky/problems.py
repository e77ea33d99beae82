"""Why an account cannot sign in: one named cause, what it means, and what a person does about it."""

from __future__ import annotations

from enum import StrEnum
from typing import Self


class AuthProblem(StrEnum):
    """One named cause of a failed authentication.

    The value is the name that stands in events, results and JSON; `explanation` and `remedy` are sentences for people.

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
        "The access token has expired, as it does every two hours.",
        "Nothing to do: the next publish refreshes it.",
    )
    REFRESH_TOKEN_EXPIRED = (
        "refresh_token_expired",
        "The refresh token has expired, which happens after 90 days without a publish.",
        "Nothing to do: the next publish signs in anew.",
    )
    SESSION_REVOKED = (
        "session_revoked",
        "The server has ended this session: the account's password was changed, or somebody signed it out.",
        "Nothing to do: the next publish signs in anew with the app password.",
    )
    APP_PASSWORD_REJECTED = (
        "app_password_rejected",
        "The server does not accept this app password for this account: it was revoked, mistyped, or belongs to another"
        " account.",
        "Create a new app password under Settings > Privacy and security > App passwords and put it into the block.",
    )
    APP_PASSWORD_REVOKED = (
        "app_password_revoked",
        "The app password has signed in before and is refused now: somebody revoked it.",
        "Create a new app password under Settings > Privacy and security > App passwords and put it into the block.",
    )
    MAIN_PASSWORD_USED = (
        "main_password_used",
        "The block holds the account's main password, which opens everything and cannot be revoked on its own.",
        "Create an app password under Settings > Privacy and security > App passwords and put it in its place.",
    )
    SIGN_IN_CODE_REQUIRED = (
        "sign_in_code_required",
        "The server asks for a sign-in code by e-mail, which it does when the account's main password is used.",
        "Put an app password into the block instead of the main password.",
    )
    WRONG_ACCOUNT = (
        "wrong_account",
        "The handle, the app password or the stored session belongs to another account (another DID) than the one that"
        " this block has been used for.",
        "Check the handle and whose app password it is. If the handle was given to a new account on purpose, delete the"
        " stored session first.",
    )
    HANDLE_NOT_FOUND = (
        "handle_not_found",
        "Nobody has this handle: it is misspelt, or the account has another one by now.",
        "Look the handle up in the account's profile and correct it in the block, or give the account's DID.",
    )
    WRONG_SERVICE = (
        "wrong_service",
        "The service that the block names is not where this account signs in.",
        "Check service_url: it is https://bsky.social unless the account lives on a PDS of its own.",
    )
    ACCOUNT_MOVED = (
        "account_moved",
        "The account lives on another PDS than the one that its session is for.",
        "Put the new PDS into service_url, and an app password made there into app_password.",
    )
    MALFORMED_HEADER = (
        "malformed_header",
        "The Authorization header is not of the form 'Bearer TOKEN': it has a quote, a space or a second scheme.",
        "Delete the stored session; the next run signs in anew and builds the header itself.",
    )
    MALFORMED_TOKEN = (
        "malformed_token",
        "A token of this session is damaged: it is no token, or its signature does not fit.",
        "Delete the stored session; the next run signs in anew.",
    )
    WRONG_TOKEN_TYPE = (
        "wrong_token_type",
        "A refresh token stands where the access token belongs, or the other way round.",
        "Delete the stored session; the next run signs in anew.",
    )
    INSUFFICIENT_SCOPE = (
        "insufficient_scope",
        "The session does not have the right to do this.",
        "Use an app password with the permission for it, or leave this action to a person.",
    )
    ACCOUNT_DEACTIVATED = (
        "account_deactivated",
        "The account is deactivated.",
        "Reactivate it in the Bluesky app.",
    )
    ACCOUNT_TAKEN_DOWN = (
        "account_taken_down",
        "The account has been taken down by its server's moderators.",
        "Sign in to the Bluesky app with the main password to read why and to appeal.",
    )
    ACCOUNT_DELETED = (
        "account_deleted",
        "The account has been deleted.",
        "Remove the block, or put another account into it.",
    )
    LOGIN_LIMIT_REACHED = (
        "login_limit_reached",
        "The account has signed in as often as it may for now; more would lock its owner out of the app too.",
        "Wait a day. If it comes again, find out what makes the session die: uv run flows/diagnose.py.",
    )
    CLOCK_DRIFT = (
        "clock_drift",
        "This machine's clock differs from the server's by minutes.",
        "Set the clock (NTP). Publishing goes on meanwhile: expiry is counted from the moment of receipt.",
    )
    SERVICE_UNAVAILABLE = (
        "service_unavailable",
        "The server does not answer, or answers with an error of its own.",
        "Nothing to do: the session is kept, and what failed is tried again.",
    )
    STORE_UNREADABLE = (
        "store_unreadable",
        "What lies in the place of the session cannot be read: it is damaged, somebody else's, or of a later version of"
        " prefect-bluesky.",
        "Where a later version is in use, upgrade this one. Otherwise point the block somewhere else (secret_prefix),"
        " or delete what lies there: the next run signs in anew.",
    )
    STORE_DENIED = (
        "store_denied",
        "The store of the session refuses access.",
        "Give the AWS credentials the rights in deployments/iam-policy.json, the KMS key's included.",
    )
    STORE_UNAVAILABLE = (
        "store_unavailable",
        "The store of the session does not answer, or is throttled.",
        "Nothing to do: what failed is tried again.",
    )
    SECRET_PENDING_DELETION = (
        "secret_pending_deletion",
        "The secret that holds the session is scheduled for deletion.",
        "Restore it (aws secretsmanager restore-secret), or delete it at once without recovery.",
    )


def classify(*, error: str | None, message: str | None) -> AuthProblem | None:
    """The problem that a server's refusal names by itself, or None if the refusal is not about authentication.

    The HTTP status decides nothing: a PDS answers an expired token with 400 and a foreign repository with 401.

    Args:
        error: the `error` of the XRPC answer, such as `"AccountTakedown"`.
        message: its `message`, such as `"Bad token scope"`.

    Example:
        >>> classify(error="ExpiredToken", message="Token has been revoked").value
        'session_revoked'
    """
    return _BY_MESSAGE.get((error, message)) or _BY_ERROR.get(error)


def is_token_refusal(*, error: str | None, message: str | None) -> bool:
    """Whether a refusal is about the token itself, so that another token may be accepted."""
    return error in {"ExpiredToken", "InvalidToken"} and message != "Bad token scope"


def problem_of_status(status: str) -> AuthProblem:
    """Why an account that is not active may not be used.

    Args:
        status: the `status` that a server gives beside `"active": false`.
    """
    return {
        "takendown": AuthProblem.ACCOUNT_TAKEN_DOWN,
        "suspended": AuthProblem.ACCOUNT_TAKEN_DOWN,
        "deleted": AuthProblem.ACCOUNT_DELETED,
    }.get(status, AuthProblem.ACCOUNT_DEACTIVATED)


# Bodies: tests/contract/test_answers.py. Where both tables have an error, the message decides.
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
}
