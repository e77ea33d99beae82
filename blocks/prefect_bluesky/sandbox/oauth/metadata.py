"""The documents by which a client finds the authorization server of a PDS, and learns what the server can do."""

from collections.abc import Mapping

from prefect_bluesky.sandbox.xrpc import Json

_SIGNING = ["ES256"]
"""A real PDS takes more algorithms, and signed requests, which the sandbox does not."""


def documents(url: str) -> Mapping[str, Json]:
    """Return the documents of a PDS that is its own authorization server, by their paths."""
    return {
        "/.well-known/oauth-protected-resource": {
            "resource": url,
            "authorization_servers": [url],
            "scopes_supported": [],
            "bearer_methods_supported": ["header"],
            "resource_documentation": "https://atproto.com",
        },
        "/.well-known/oauth-authorization-server": {
            "issuer": url,
            "request_parameter_supported": False,
            "scopes_supported": ["atproto", "transition:email", "transition:generic", "transition:chat.bsky"],
            "subject_types_supported": ["public"],
            "response_types_supported": ["code"],
            "response_modes_supported": ["query"],
            "grant_types_supported": ["authorization_code", "refresh_token"],
            "code_challenge_methods_supported": ["S256"],
            "ui_locales_supported": ["en-US"],
            "display_values_supported": ["page", "popup", "touch"],
            "authorization_response_iss_parameter_supported": True,
            "jwks_uri": f"{url}/oauth/jwks",
            "authorization_endpoint": f"{url}/oauth/authorize",
            "token_endpoint": f"{url}/oauth/token",
            "token_endpoint_auth_methods_supported": ["none", "private_key_jwt"],
            "token_endpoint_auth_signing_alg_values_supported": _SIGNING,
            "revocation_endpoint": f"{url}/oauth/revoke",
            "pushed_authorization_request_endpoint": f"{url}/oauth/par",
            "require_pushed_authorization_requests": True,
            "dpop_signing_alg_values_supported": _SIGNING,
            "protected_resources": [url],
            "client_id_metadata_document_supported": True,
            "prompt_values_supported": ["none", "login", "consent", "select_account", "create"],
        },
        "/oauth/jwks": {"keys": []},
    }
