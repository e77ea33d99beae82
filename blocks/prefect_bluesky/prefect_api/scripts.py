"""What a script needs of Prefect, and of its errors, when a person starts the script in a terminal."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from prefect.exceptions import PrefectHTTPStatusError
from prefect.settings import PREFECT_API_URL, PREFECT_SERVER_ANALYTICS_ENABLED, temporary_settings

from prefect_bluesky.errors import BlueskyError, InvalidInput
from prefect_bluesky.prefect_api.client import API_TROUBLE

_START = "Start a server with `prefect server start`"

_UNREACHABLE = "Failed to reach API"
"""How the message of Prefect's RuntimeError begins if a flow cannot be started (3.8.8 to 3.9.1)."""


@contextmanager
def as_script(server_for: str = "") -> Iterator[None]:
    """Run a script: what a person can correct ends it with one sentence, not with a traceback. Also a decorator.

    A server that Prefect starts for the script sends no telemetry: one that ends before its telemetry was sent prints
    150 lines of tracebacks (Prefect 3.8.8).

    Args:
        server_for: what the script needs the server of PREFECT_API_URL for, such as `whose posts are listed`; "" if a
            server that Prefect starts for the script will do.

    Example:
        >>> @as_script()
        ... def main() -> None:
        ...     flow()
    """
    url = PREFECT_API_URL.value()
    try:
        if server_for:
            require_server(server_for)
        with temporary_settings({PREFECT_SERVER_ANALYTICS_ENABLED: False}):
            yield
    except BlueskyError as problem:
        sys.exit(str(problem))
    except API_TROUBLE as trouble:
        sys.exit(str(_refused(url, trouble) if isinstance(trouble, PrefectHTTPStatusError) else _away(url)))
    except RuntimeError as trouble:
        if not str(trouble).startswith(_UNREACHABLE):
            raise
        sys.exit(str(_away(url)))
    except KeyboardInterrupt:
        sys.exit(130)  # as a shell has it for Ctrl-C


def require_server(server_for: str) -> None:
    """Refuse the server that Prefect would start for a script: it ends with the script.

    Raises:
        InvalidInput: PREFECT_API_URL is not set.
    """
    if not PREFECT_API_URL.value():
        remedy = f"{_START}, and set it to http://127.0.0.1:4200/api."
        raise InvalidInput("PREFECT_API_URL", f"it is not set, so there is no server {server_for}.", remedy)


def _away(url: str | None) -> InvalidInput:
    if url and not url.startswith(("http://", "https://")):
        what = f"{url!r} is not the URL of a server."
        return InvalidInput("PREFECT_API_URL", what, "Write it like http://127.0.0.1:4200/api.")
    what = f"the server at {url} does not answer." if url else "the server that Prefect has started does not answer."
    return InvalidInput("PREFECT_API_URL", what, f"{_START}, or correct the URL.")


def _refused(url: str | None, refusal: PrefectHTTPStatusError) -> InvalidInput:
    status = refusal.response.status_code
    what = f"the server at {url} answers {status} {refusal.response.reason_phrase}."
    remedy = {
        401: "Set PREFECT_API_AUTH_STRING, or PREFECT_API_KEY for Prefect Cloud.",
        403: "Set PREFECT_API_AUTH_STRING, or PREFECT_API_KEY for Prefect Cloud.",
        404: "Correct the URL: that of a Prefect server ends with /api.",
    }
    return InvalidInput("PREFECT_API_URL", what, remedy.get(status, "Look at the server's log, and try again."))
