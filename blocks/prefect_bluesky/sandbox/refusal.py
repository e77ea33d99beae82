"""A refused call: the HTTP status and the two words that a PDS puts in its answer."""

from collections.abc import Mapping

_NAMES = {
    400: ("InvalidRequest", "Invalid Request"),
    401: ("AuthenticationRequired", "Authentication Required"),
    403: ("Forbidden", "Forbidden"),
    429: ("RateLimitExceeded", "Rate Limit Exceeded"),
    500: ("InternalServerError", "Internal Server Error"),
    502: ("UpstreamFailure", "Upstream Failure"),
    503: ("NotEnoughResources", "Not Enough Resources"),
    504: ("UpstreamTimeout", "Upstream Timeout"),
}


class Refusal(Exception):
    """Ends a call with an error answer: `{"error": ..., "message": ...}`.

    Example:
        >>> raise Refusal(400, "ExpiredToken", "Token has expired")
        Traceback (most recent call last):
        ...
        prefect_bluesky.sandbox.refusal.Refusal: 400 ExpiredToken: Token has expired
    """

    def __init__(self, status: int, error: str, message: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(f"{status} {error}: {message}")
        self.status = status
        self.error = error
        self.message = message
        self.headers = dict(headers or {})


def bad_request(message: str, error: str = "InvalidRequest") -> Refusal:
    """A 400. Bad and expired tokens are among them: a PDS keeps 401 for other cases."""
    return Refusal(400, error, message)


def unauthorized(message: str = "Authentication Required", error: str = "AuthenticationRequired") -> Refusal:
    """A 401."""
    return Refusal(401, error, message)


def server_error() -> Refusal:
    """A 500, which is also what a PDS says to a write whose record key is taken."""
    return Refusal(500, "InternalServerError", "Internal Server Error")


def failure(status: int, error: str | None, message: str | None, headers: Mapping[str, str] | None) -> Refusal:
    """Any status, with the usual words where none are given."""
    usual_error, usual_message = _NAMES.get(status, ("UnknownXRPCError", "Unknown XRPC Error"))
    return Refusal(status, error or usual_error, message or usual_message, headers)
