"""The refusals of OAuth, of which some carry a challenge in the header WWW-Authenticate."""

from collections.abc import Mapping

from prefect_bluesky.sandbox.refusal import Refusal
from prefect_bluesky.sandbox.xrpc import Answer

_ALGORITHMS = "RS256 RS384 RS512 PS256 PS384 PS512 ES256 ES256K ES384 ES512"
_SERVER_ERROR = 500


def refused(error: str, description: str) -> Refusal:
    """Return a 400."""
    return Refusal(400, error, description)


def invalid_grant(description: str) -> Refusal:
    """Return the 400 for a code, a refresh token or a request that gives no tokens."""
    return refused("invalid_grant", description)


def nonce_wanted(description: str = "Authorization server requires nonce in DPoP proof") -> Refusal:
    """Return the 400 that asks for a proof with the nonce of the answer."""
    return refused("use_dpop_nonce", description)


def invalid_proof(description: str) -> Refusal:
    """Return the 401 for a bad DPoP proof."""
    return challenge("invalid_dpop_proof", description)


def invalid_token(description: str) -> Refusal:
    """Return the 401 for a bad access token."""
    return challenge("invalid_token", description)


def challenge(error: str, description: str) -> Refusal:
    """Return a 401 with a challenge. A PDS leaves out of the challenge what contains quotes."""
    members = {"algs": _ALGORITHMS, "error": error, "error_description": description}
    said = ", ".join(f'{name}="{value}"' for name, value in members.items() if '"' not in value)
    return Refusal(401, error, description, {"www-authenticate": f"DPoP {said}"})


def as_answer(refusal: Refusal) -> Answer:
    """Return the answer of an OAuth endpoint, whose bodies differ from those of XRPC."""
    return Answer(refusal.status, {"error": refusal.error, "error_description": refusal.message}, refusal.headers)


def failure(status: int, error: str | None, description: str | None, headers: Mapping[str, str] | None) -> Refusal:
    """Return an answer of any status, by default with the usual error name and description."""
    usual = ("server_error", "Server error") if status >= _SERVER_ERROR else ("invalid_request", "Invalid request")
    return Refusal(status, error or usual[0], description or usual[1], headers)
