"""Tokens for other services: what they are given for, and what uploadBlob says to one."""

import base64
import json
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import httpx
import pytest

from tests.contract.caller import OK, UPLOAD, Caller, claims, fresh_caller, said
from tests.support import Pds

ASK = "com.atproto.server.getServiceAuth"
DESCRIBE = "com.atproto.server.describeServer"

_PDS = "did:web:localhost"  # both call themselves so
_MP4 = b"\x00\x00\x00\x18ftypmp42 and so on"
_PARAMS = f"Invalid {ASK} params: "
_NO_AUDIENCE = (400, "InvalidRequest", "aud must be a valid atproto DID or did#serviceId reference")
_PROTECTED = "cannot request a service auth token for the following protected method: "
_INSUFFICIENT = "insufficient access to request a service auth token for the following method: "
_UNVERIFIED = (400, "InvalidToken", "Token could not be verified")
_HOUR = timedelta(hours=1)

Answer = tuple[int, str | None, str | None]
Case = Callable[[Caller], httpx.Response]


def _ask(caller: Caller, **params: str | int) -> httpx.Response:
    """Ask for a token with which another service may upload blobs; parameters may be changed, and "" is none."""
    usual = {"aud": _PDS, "lxm": UPLOAD}
    auth = f"Bearer {caller.session['accessJwt']}"
    return caller.get(ASK, auth=auth, **{name: str(value) for name, value in {**usual, **params}.items()})


def _in(seconds: int) -> int:
    return int(time.time()) + seconds


def _token(caller: Caller, **params: str | int) -> str:
    return str(_ask(caller, **params).json()["token"])


def _upload(caller: Caller, token: str) -> httpx.Response:
    return caller.upload(_MP4, "video/mp4", auth=f"Bearer {token}")


def _altered(token: str, **changes: Any) -> str:
    """A token with other claims, which its signature does not fit."""
    header, _, signature = token.split(".")
    payload = json.dumps({**claims(token), **changes}).encode()
    return f"{header}.{base64.urlsafe_b64encode(payload).decode().rstrip('=')}.{signature}"


def _session(caller: Caller, *, privileged: bool) -> Caller:
    """The account in a session of another kind."""
    account, pds = caller.account, caller.pds
    name = f"password {time.monotonic_ns()}"
    password = pds.create_app_password(account, name, privileged=True) if privileged else account.password
    return Caller(pds, account, caller.log_in(password=password).json())


GIVEN: dict[str, tuple[Case, Answer]] = {
    "for a method": (lambda c: _ask(c), OK),
    "for any method": (lambda c: _ask(c, lxm=""), OK),
    "for half an hour": (lambda c: _ask(c, exp=_in(1800)), OK),
    "for a service of a DID": (lambda c: _ask(c, aud="did:web:video.bsky.app#bsky_video"), OK),
    "for a PDS by its address": (lambda c: _ask(c, aud="did:web:127.0.0.1"), OK),
    "for a PDS by its port": (lambda c: _ask(c, aud="did:web:localhost%3A2583"), OK),
    "for nobody": (lambda c: _ask(c, aud=""), (400, "InvalidRequest", _PARAMS + 'Missing required key "aud"')),
    "for somebody without a DID": (lambda c: _ask(c, aud="video.bsky.app"), _NO_AUDIENCE),
    "for a DID of another method": (lambda c: _ask(c, aud="did:example:video"), _NO_AUDIENCE),
    "for a port of the web": (lambda c: _ask(c, aud="did:web:example.com%3A2583"), _NO_AUDIENCE),
    "for a short DID": (lambda c: _ask(c, aud="did:plc:abc"), _NO_AUDIENCE),
    "for a method that is none": (
        lambda c: _ask(c, lxm="uploadBlob"),
        (400, "InvalidRequest", _PARAMS + 'Invalid NSID (got "uploadBlob")'),
    ),
    "for what only the owner does": (
        lambda c: _ask(c, lxm="com.atproto.server.createAppPassword"),
        (400, "InvalidRequest", _PROTECTED + "com.atproto.server.createAppPassword"),
    ),
    "for what only the owner does, in capitals": (
        lambda c: _ask(c, lxm="com.atproto.server.GETSESSION"),
        (400, "InvalidRequest", _PROTECTED + "com.atproto.server.GETSESSION"),
    ),
    "for messages": (
        lambda c: _ask(c, lxm="chat.bsky.convo.getLog"),
        (400, "InvalidRequest", _INSUFFICIENT + "chat.bsky.convo.getLog"),
    ),
    "for messages, with a privileged app password": (
        lambda c: _ask(_session(c, privileged=True), lxm="chat.bsky.convo.getLog"),
        OK,
    ),
    "for messages, with the main password": (
        lambda c: _ask(_session(c, privileged=False), lxm="chat.bsky.convo.getLog"),
        OK,
    ),
    "until yesterday": (lambda c: _ask(c, exp=_in(-86_400)), (400, "BadExpiration", "expiration is in past")),
    "for two hours": (
        lambda c: _ask(c, exp=_in(7200)),
        (400, "BadExpiration", "cannot request a token with an expiration more than an hour in the future"),
    ),
    "for any method and two minutes": (
        lambda c: _ask(c, lxm="", exp=_in(120)),
        (
            400,
            "BadExpiration",
            "cannot request a method-less token with an expiration more than a minute in the future",
        ),
    ),
    "until soon": (
        lambda c: _ask(c, exp="soon"),
        (400, "InvalidRequest", _PARAMS + 'Expected integer value type (got "soon")'),
    ),
    "to nobody": (lambda c: c.get(ASK, aud=_PDS), (401, "AuthMissing", "Authentication Required")),
    "for a refresh token": (lambda c: c.get(ASK, aud=_PDS, auth="Bearer " + c.session["refreshJwt"]), _UNVERIFIED),
    "for a service token": (lambda c: c.get(ASK, aud=_PDS, auth="Bearer " + _token(c)), _UNVERIFIED),
    "to an account that was taken down": (
        lambda c: c.get(ASK, aud=_PDS, auth=c.token(expires_in=_HOUR, scope="com.atproto.takendown")),
        (400, "InvalidToken", "Bad token scope"),
    ),
}
TAKEN: dict[str, tuple[Case, Answer]] = {
    "one for it": (lambda c: _upload(c, _token(c, exp=_in(1800))), OK),
    "one for another method": (
        lambda c: _upload(c, _token(c, lxm="app.bsky.video.uploadVideo")),
        (401, "BadJwtLexiconMethod", f'bad jwt lexicon method ("lxm"). must match: {UPLOAD}'),
    ),
    "one for any method": (lambda c: _upload(c, _token(c, lxm="")), _UNVERIFIED),
    "one for another service": (
        lambda c: _upload(c, _token(c, aud="did:web:video.bsky.app")),
        (401, "BadJwtAudience", "jwt audience does not match service did"),
    ),
    "one that has expired": (
        lambda c: _upload(c, _altered(_token(c), exp=_in(-1))),
        (401, "JwtExpired", "jwt expired"),
    ),
    "one that was altered": (
        lambda c: _upload(c, _altered(_token(c), jti="")),
        (401, "BadJwtSignature", "jwt signature does not match jwt issuer"),
    ),
    "one of an unknown account": (
        lambda c: _upload(c, _altered(_token(c), iss="did:plc:ewvi7nxzyoun6zhxrhs64oiz")),
        (401, "AuthenticationRequired", "could not resolve iss did"),
    ),
    "one of no account": (
        lambda c: _upload(c, _altered(_token(c), iss="alice.test")),
        (401, "BadJwtIss", "jwt iss is not a valid did"),
    ),
    "one without an end": (
        lambda c: _upload(c, _altered(_token(c), exp=None)),
        (401, "BadJwt", "poorly formatted jwt"),
    ),
    "not for writing": (lambda c: c.create({}, auth="Bearer " + _token(c)), _UNVERIFIED),
}


@pytest.mark.parametrize("cases", [GIVEN, TAKEN], ids=["asking", "uploading"])
def test_an_answer(caller: Caller, cases: dict[str, tuple[Case, Answer]]) -> None:
    answers = {name: said(call(caller)) for name, (call, _) in cases.items()}
    assert answers == {name: expected for name, (_, expected) in cases.items()}


def test_the_pds_says_for_whom_its_tokens_must_be(caller: Caller) -> None:
    assert caller.get(DESCRIBE).json()["did"] == _PDS


def test_a_token_names_the_account_the_service_the_method_and_its_end(caller: Caller) -> None:
    end = _in(1800)
    found = claims(_token(caller, exp=end))
    assert len(found.pop("jti")) == 32
    assert abs(found.pop("iat") - time.time()) < 30
    assert found == {"iss": caller.account.did, "aud": _PDS, "lxm": UPLOAD, "exp": end}


def test_a_token_lives_a_minute_if_nothing_is_asked(caller: Caller) -> None:
    found = claims(_token(caller))
    assert found["exp"] - found["iat"] == 60


def test_a_blob_that_a_service_uploaded_goes_into_a_record(pds: Pds) -> None:
    caller = fresh_caller(pds)
    blob = _upload(caller, _token(caller)).json()["blob"]
    assert said(caller.create({"embed": {"$type": "app.bsky.embed.video", "video": blob}})) == OK
    (post,) = pds.posts(caller.account)
    assert post["value"]["embed"]["video"] == blob


def test_a_token_outlives_the_session_but_not_the_account(pds: Pds) -> None:
    caller = fresh_caller(pds)
    token = _token(caller)
    pds.revoke_app_password(caller.account)
    pds.take_down(caller.account)
    assert said(_upload(caller, token)) == OK
    pds.delete_account(caller.account)
    assert said(_upload(caller, token)) == (500, "InternalServerError", "Internal Server Error")
