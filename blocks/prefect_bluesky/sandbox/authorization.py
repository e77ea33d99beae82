"""Who makes a call, and what that allows: sessions by a password, sessions by a grant, and tokens of other services."""

from collections.abc import Callable, Collection

from .accounts import Accounts, account_not_found, refuse_inactive
from .oauth.grants import Grants
from .oauth.proofs import Proofs
from .oauth.refusals import challenge
from .oauth.scopes import Permissions
from .refusal import Refusal
from .service_auth import ServiceAuth
from .tokens import ANY_SESSION, MAIN_ONLY, Scope, Tokens, parse_authorization, unverified
from .xrpc import Call, Claims

UPLOAD = "com.atproto.repo.uploadBlob"
_APP_VIEW = "did:web:api.bsky.app#bsky_appview"

Allow = Callable[[Permissions, Call], None]
"""Refuses a call that the scope of a granted session does not allow."""


class Authorization:
    """The checker of calls. Each of its methods returns claims, of which `sub` is the account, or raises `Refusal`.

    The claims of a granted session have `permissions` in place of `scope`.
    """

    def __init__(
        self, accounts: Accounts, tokens: Tokens, service_auth: ServiceAuth, proofs: Proofs, grants: Grants
    ) -> None:
        self._accounts = accounts
        self._tokens = tokens
        self._service_auth = service_auth
        self._proofs = proofs
        self._grants = grants

    def session(
        self, call: Call, *, scopes: Collection[Scope] = ANY_SESSION, allow: Allow = lambda permissions, call: None
    ) -> Claims:
        """Check the session of a call: its token has one of `scopes`, or its grant is what `allow` lets pass."""
        header = parse_authorization(call.authorization)
        if header is None or header[0] != "dpop":
            return self._tokens.access(call.authorization, scopes)
        claims = self._granted(call, header[1])
        allow(claims["permissions"], call)
        return claims

    def refresh(self, call: Call, *, allow_expired: bool = False) -> Claims:
        """Check the refresh token of a session by a password."""
        return self._tokens.refresh(call.authorization, allow_expired=allow_expired)

    def password(self, call: Call) -> Claims:
        """Check a session by any password."""
        return self.session(call, allow=_forbid)

    def main_password(self, call: Call) -> Claims:
        """Check a session by the main password."""
        return self._not_taken_down(self.session(call, scopes=MAIN_ONLY, allow=_forbid))

    def app_view(self, call: Call) -> Claims:
        """Check a call that a PDS hands on to an AppView."""
        return self.session(call, allow=lambda permissions, call: permissions.needs_call(call.nsid, _APP_VIEW))

    def service_auth(self, call: Call) -> Claims:
        """Check who asks for a token of another service. An account taken down may ask too, in order to move away."""

        def allow(permissions: Permissions, call: Call) -> None:
            permissions.needs_call(call.query.get("lxm") or "*", call.query["aud"])

        return self.session(call, scopes=(*ANY_SESSION, Scope.TAKEN_DOWN), allow=allow)

    def upload(self, call: Call) -> Claims:
        """Check an upload, which another service may make, too."""
        _, claims = unverified(call.authorization)
        if claims.get("lxm") is not None:
            # A PDS accepts it even for an account taken down.
            return self._service_auth.account(call.authorization, UPLOAD)
        return self._not_taken_down(self.session(call, allow=_needs_blob))

    def _granted(self, call: Call, token: str) -> Claims:
        call.headers_of_answer["dpop-nonce"] = self._proofs.nonce()
        try:
            proof = self._proofs.check(call, token)
        except Refusal as refusal:
            raise challenge(refusal.error, refusal.message) from None
        session = self._grants.session(token, proof.key if proof else None)
        return {"sub": session.did, "permissions": Permissions(session.scope)}

    def _not_taken_down(self, claims: Claims) -> Claims:
        holder = self._accounts.find(claims["sub"])
        if holder is None:
            raise account_not_found()
        refuse_inactive(holder, deactivated=False)
        return claims


def _needs_blob(permissions: Permissions, call: Call) -> None:
    permissions.needs_blob(call.headers.get("content-type", "").partition(";")[0].strip())


def _forbid(permissions: Permissions, call: Call) -> None:
    raise Refusal(403, "Forbidden", "OAuth credentials are not supported for this endpoint")
