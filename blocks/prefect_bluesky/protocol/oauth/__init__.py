"""Speak OAuth as the AT Protocol demands: clients, grants, tokens, proofs and scopes. Sessions are unknown here.

A server's answers are as measured on a real PDS; `tests/contract/test_oauth.py` asks it again.
"""

from prefect_bluesky.protocol.oauth.client import Client
from prefect_bluesky.protocol.oauth.grant import AskedGrant, ask_for_grant
from prefect_bluesky.protocol.oauth.keys import SigningKey
from prefect_bluesky.protocol.oauth.proofs import learn, proof
from prefect_bluesky.protocol.oauth.scopes import allows_blob, allows_call, allows_record, scope_of
from prefect_bluesky.protocol.oauth.server import AuthorizationServer
from prefect_bluesky.protocol.oauth.tokens import Tokens, refresh, revoke

# fmt: off
__all__ = [
    "AskedGrant", "AuthorizationServer", "Client", "SigningKey", "Tokens", "allows_blob", "allows_call",
    "allows_record", "ask_for_grant", "learn", "proof", "refresh", "revoke", "scope_of",
]
# fmt: on
