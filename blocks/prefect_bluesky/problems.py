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

    APP_PASSWORD_REJECTED = (
        "app_password_rejected",
        "The server does not accept this app password for this account: it was revoked, mistyped, or belongs to another"
        " account.",
        "Create a new app password under Settings > Privacy and security > App passwords and put it into the block.",
    )
    SIGN_IN_CODE_REQUIRED = (
        "sign_in_code_required",
        "The server asks for a sign-in code by e-mail, which it does when the account's main password is used.",
        "Put an app password into the block instead of the main password.",
    )
    WRONG_ACCOUNT = (
        "wrong_account",
        "The server signed in another account (another DID) than the one that this block has been used for.",
        "Check the handle and whose app password it is. If the handle was given to a new account on purpose, delete the"
        " stored session first.",
    )
    WRONG_SERVICE = (
        "wrong_service",
        "The server refuses a token that was made a moment ago, so it is not the home of this account's sessions.",
        "Check service_url: it is https://bsky.social unless the account lives on a PDS of its own.",
    )
    MALFORMED_TOKEN = (
        "malformed_token",
        "A token of this session is damaged: it holds characters that a token cannot have.",
        "Delete the stored session; the next run signs in anew.",
    )
    INSUFFICIENT_SCOPE = (
        "insufficient_scope",
        "An app password does not have the right to do this.",
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


def classify(*, error: str | None, message: str | None) -> AuthProblem | None:
    """The problem that a server's refusal names, or None if the refusal is not about authentication.

    The HTTP status decides nothing: a PDS answers an expired token with 400 and a foreign repository with 401.

    Args:
        error: the `error` of the XRPC answer, such as `"AccountTakedown"`.
        message: its `message`, such as `"Bad token scope"`.
    """
    if error == "InvalidToken" and message == "Bad token scope":
        return AuthProblem.INSUFFICIENT_SCOPE
    return _PROBLEM_OF_ERROR.get(error or "")


def is_token_refusal(*, error: str | None, message: str | None) -> bool:
    """Whether a refusal is about the token itself, so that another token may be accepted."""
    return error in {"ExpiredToken", "InvalidToken"} and message != "Bad token scope"


_PROBLEM_OF_ERROR = {
    "ExpiredToken": AuthProblem.WRONG_SERVICE,
    "InvalidToken": AuthProblem.WRONG_SERVICE,
    "AuthenticationRequired": AuthProblem.WRONG_ACCOUNT,
    "AuthFactorTokenRequired": AuthProblem.SIGN_IN_CODE_REQUIRED,
    "AccountDeactivated": AuthProblem.ACCOUNT_DEACTIVATED,
    "AccountTakedown": AuthProblem.ACCOUNT_TAKEN_DOWN,
}
