"""Service tokens: another service may use a token to call one method of a PDS in an account's name, for a while."""

import re
import secrets

from .accounts import Accounts
from .clock import Clock
from .lexicon import is_did
from .refusal import Refusal, bad_request, server_error, unauthorized
from .tokens import Scope, Tokens, unverified
from .xrpc import Arguments, Call, Claims, Json

_MINUTE = 60
_HOUR = 60 * _MINUTE
_AUDIENCE = re.compile(
    r"did:(plc:[a-z2-7]{24}|web:(localhost%3A\d{1,5}|[a-zA-Z0-9._-]+))(#[a-zA-Z0-9._~!$&'()*+,;=:@/?%-]+)?"
)
_MIGRATION = "com.atproto.server.createAccount"
_OTHER_TOKENS = {"at+jwt", "refresh+jwt", "dpop+jwt"}

_CHAT = (
    "actor.deleteAccount actor.exportAccountData convo.deleteMessageForSelf convo.getConvo convo.getConvoForMembers"
    " convo.getLog convo.getMessages convo.leaveConvo convo.listConvos convo.muteConvo convo.sendMessage"
    " convo.sendMessageBatch convo.unmuteConvo convo.updateRead"
)
_OWNERS = (
    "admin.sendEmail identity.requestPlcOperationSignature identity.signPlcOperation identity.updateHandle"
    " server.activateAccount server.confirmEmail server.createAppPassword server.deactivateAccount"
    " server.getAccountInviteCodes server.getSession server.listAppPasswords server.requestAccountDelete"
    " server.requestEmailConfirmation server.requestEmailUpdate server.revokeAppPassword server.updateEmail"
)
# In lower case, as a PDS compares them.
_PRIVILEGED = {f"chat.bsky.{name}".lower() for name in _CHAT.split()} | {_MIGRATION.lower()}
_PROTECTED = {f"com.atproto.{name}".lower() for name in _OWNERS.split()}


class ServiceAuth:
    """The issuer and checker of service tokens.

    The tokens are signed with the sandbox's own key, so only the sandbox can check them. A real PDS has a key for each
    account and publishes the key in the account's DID document.
    """

    def __init__(self, clock: Clock, tokens: Tokens, accounts: Accounts) -> None:
        self._clock = clock
        self._tokens = tokens
        self._accounts = accounts

    def get_service_auth(self, call: Call, args: Arguments) -> Json:
        """Handle `com.atproto.server.getServiceAuth`."""
        audience, expires, method = (args.params.get(name) for name in ("aud", "exp", "lxm"))
        if not _AUDIENCE.fullmatch(args.params["aud"]):
            raise bad_request("aud must be a valid atproto DID or did#serviceId reference")
        if "scope" in args.claims:
            self._refuse_method_of_others(args.claims["scope"], method)
        now = self._clock.now()
        if expires:
            self._refuse_lifetime(expires - now, method)
        if method and method.lower() in _PROTECTED:
            raise bad_request(f"cannot request a service auth token for the following protected method: {method}")
        if self._accounts.find(args.claims["sub"]) is None:
            raise server_error()
        claims = {"iat": int(now), "iss": args.claims["sub"], "aud": audience}
        claims["exp"] = int(now) + _MINUTE if expires is None else expires
        lxm = {"lxm": method} if method else {}
        return {"token": self._tokens.sign("JWT", {**claims, **lxm, "jti": secrets.token_hex(16)})}

    def account(self, authorization: str | None, method: str) -> Claims:
        """Return claims whose `sub` is the account of a service token.

        Args:
            authorization: the Authorization header, which contains a JWT.
            method: the called method.

        Raises:
            Refusal: 401; or 500 for a deleted account, as on a PDS.
        """
        header, claims = unverified(authorization)
        if header.get("typ") in _OTHER_TOKENS:
            raise unauthorized(f'Invalid jwt type "{header["typ"]}"', "BadJwtType")
        issuer, expires = claims.get("iss"), claims.get("exp")
        named = isinstance(header.get("alg"), str) and isinstance(claims.get("aud"), str)
        if not (named and isinstance(issuer, str) and isinstance(expires, int | float)):
            raise unauthorized("poorly formatted jwt", "BadJwt")
        if self._clock.now() > expires:
            raise unauthorized("jwt expired", "JwtExpired")
        if claims.get("lxm") != method:
            raise unauthorized(f'bad jwt lexicon method ("lxm"). must match: {method}', "BadJwtLexiconMethod")
        if not is_did(issuer):
            raise unauthorized("jwt iss is not a valid did", "BadJwtIss")
        holder = self._accounts.find(issuer)
        if not self._tokens.has_signed(authorization):
            raise _bad_signature() if holder else unauthorized("could not resolve iss did")
        if claims["aud"] != self._tokens.service_did:
            raise unauthorized("jwt audience does not match service did", "BadJwtAudience")
        if holder is None:
            raise server_error()
        return {"sub": issuer}

    def _refuse_method_of_others(self, scope: str, method: str | None) -> None:
        if scope == Scope.TAKEN_DOWN and method != _MIGRATION:
            raise bad_request("Bad token scope", "InvalidToken")
        if method and method.lower() in _PRIVILEGED and scope not in (Scope.MAIN, Scope.APP_PRIVILEGED):
            raise bad_request(f"insufficient access to request a service auth token for the following method: {method}")

    def _refuse_lifetime(self, seconds: float, method: str | None) -> None:
        if seconds < 0:
            raise _bad_expiration("expiration is in past")
        if seconds > _HOUR:
            raise _bad_expiration("cannot request a token with an expiration more than an hour in the future")
        if not method and seconds > _MINUTE:
            raise _bad_expiration(
                "cannot request a method-less token with an expiration more than a minute in the future"
            )


def _bad_expiration(message: str) -> Refusal:
    return bad_request(message, "BadExpiration")


def _bad_signature() -> Refusal:
    return unauthorized("jwt signature does not match jwt issuer", "BadJwtSignature")
