"""A refused call: the HTTP status, the error name and the message of the answer."""

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
    """The end of a call with an error answer: `{"error": ..., "message": ...}`.

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
    """Return a 400. A PDS also answers bad and expired tokens with 400, and uses 401 for other cases."""
    return Refusal(400, error, message)


def unauthorized(message: str = "Authentication Required", error: str = "AuthenticationRequired") -> Refusal:
    """Return a 401."""
    return Refusal(401, error, message)


def server_error() -> Refusal:
    """Return a 500, which is also the answer of a PDS to a write whose record key is taken."""
    return Refusal(500, "InternalServerError", "Internal Server Error")


def failure(status: int, error: str | None, message: str | None, headers: Mapping[str, str] | None) -> Refusal:
    """Return an answer of any status, by default with the usual error name and message."""
    usual_error, usual_message = _NAMES.get(status, ("UnknownXRPCError", "Unknown XRPC Error"))
    return Refusal(status, error or usual_error, message or usual_message, headers)
