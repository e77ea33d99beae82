"""What a PDS answers, word for word: the sandbox is believed because the real one says the same."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import httpx
import pytest

from prefect_bluesky.sessions.diagnosis import _NO_COMMIT
from tests.contract.caller import CREATE, OK, POST, Caller, claims, fresh_caller, said
from tests.support import LOGIN, REFRESH, Pds

GET = "com.atproto.repo.getRecord"
SESSION = "com.atproto.server.getSession"
STATUS = "com.atproto.sync.getRepoStatus"
RESOLVE = "com.atproto.identity.resolveHandle"
NO_LOGIN = (401, "AuthenticationRequired", "Invalid identifier or password")
MALFORMED = (400, "InvalidToken", "Malformed authorization header")
UNVERIFIED = (400, "InvalidToken", "Token could not be verified")
BAD_SCOPE = (400, "InvalidToken", "Bad token scope")
NO_TOKEN = (401, "AuthMissing", "Authentication Required")
EXPIRED = (400, "ExpiredToken", "Token has expired")
REVOKED = (400, "ExpiredToken", "Token has been revoked")
BROKEN = (500, "InternalServerError", "Internal Server Error")
DEACTIVATED = (401, "AccountDeactivated", "Account is deactivated")
TAKEN_DOWN = (401, "AccountTakedown", "Account has been taken down")
NOT_FOUND = (403, "AccountNotFound", "Account not found")
NOBODY = (400, "InvalidRequest", "Could not find user info for account: {did}")
INVALID = "Invalid app.bsky.feed.post record: "

_HOUR = timedelta(hours=1)
# A TID has no 0, 1, 8 or 9.
_DIGITS = str.maketrans("0123456789", "abcdefghij")


Answer = tuple[int, str | None, str | None]
Case = Callable[[Caller], httpx.Response]

CASES: dict[str, tuple[Case, Answer]] = {
    "login by handle": (lambda c: c.log_in(), OK),
    "login by DID": (lambda c: c.log_in(c.account.did), OK),
    "login in capitals": (lambda c: c.log_in(c.account.handle.upper()), OK),
    "login with the main password": (lambda c: c.log_in(password=c.account.password), OK),
    "login with @": (lambda c: c.log_in("@" + c.account.handle), NO_LOGIN),
    "login without a domain": (lambda c: c.log_in(c.account.handle.split(".")[0]), NO_LOGIN),
    "login with a trailing space": (lambda c: c.log_in(c.account.handle + " "), NO_LOGIN),
    "login of nobody": (lambda c: c.log_in("nobody.test"), NO_LOGIN),
    "login with a wrong password": (lambda c: c.log_in(password="aaaa-bbbb-cccc-dddd"), NO_LOGIN),
    "login with a line break": (lambda c: c.log_in(password=c.account.app_password + "\n"), NO_LOGIN),
    "login without dashes": (lambda c: c.log_in(password=c.account.app_password.replace("-", "")), NO_LOGIN),
    "login without a password": (
        lambda c: c.post(LOGIN, {"identifier": c.account.handle}, auth=None),
        (400, "InvalidRequest", 'Missing required key "password" at $'),
    ),
    "no header": (lambda c: c.create({}, auth=None), NO_TOKEN),
    "no token": (lambda c: c.create({}, auth="Bearer"), MALFORMED),
    "no scheme": (lambda c: c.create({}, auth=c.session["accessJwt"]), MALFORMED),
    "two schemes": (lambda c: c.create({}, auth="Bearer Bearer " + c.session["accessJwt"]), MALFORMED),
    "two spaces": (lambda c: c.create({}, auth="Bearer  " + c.session["accessJwt"]), MALFORMED),
    "another scheme": (
        lambda c: c.create({}, auth="Token " + c.session["accessJwt"]),
        (400, "InvalidToken", "Unsupported authorization type: Token"),
    ),
    "lower case": (lambda c: c.create({}, auth="bearer " + c.session["accessJwt"]), OK),
    "quotes": (lambda c: c.create({}, auth=f'Bearer "{c.session["accessJwt"]}"'), UNVERIFIED),
    "garbage": (lambda c: c.create({}, auth="Bearer garbage"), UNVERIFIED),
    "a cut token": (lambda c: c.create({}, auth="Bearer " + c.session["accessJwt"][:-1]), UNVERIFIED),
    "an app password as token": (lambda c: c.create({}, auth="Bearer " + c.account.app_password), UNVERIFIED),
    "a refresh token as access token": (lambda c: c.create({}, auth="Bearer " + c.session["refreshJwt"]), UNVERIFIED),
    "an expired token": (lambda c: c.create({}, auth=c.token()), EXPIRED),
    "an expired token, reading": (lambda c: c.get(SESSION, auth=c.token()), EXPIRED),
    "an unknown scope": (lambda c: c.create({}, auth=c.token(expires_in=_HOUR, scope="com.example")), BAD_SCOPE),
    "a right that app passwords lack": (
        lambda c: c.post("com.atproto.server.createAppPassword", {"name": "more"}),
        BAD_SCOPE,
    ),
    "uploading with a bad token": (lambda c: c.upload(b"x", "image/png", auth="Bearer garbage"), BROKEN),
    "refreshing without a header": (lambda c: c.post(REFRESH, auth=None), NO_TOKEN),
    "refreshing with an access token": (lambda c: c.post(REFRESH), UNVERIFIED),
    "refreshing with an expired token": (lambda c: c.post(REFRESH, auth=c.token("refresh")), EXPIRED),
    "refreshing with a body": (
        lambda c: c.post(REFRESH, {}, auth="Bearer " + c.session["refreshJwt"]),
        (400, "InvalidRequest", "A request body was provided when none was expected"),
    ),
    "a known handle": (lambda c: c.get(RESOLVE, handle=c.account.handle), OK),
    "an unknown handle": (
        lambda c: c.get(RESOLVE, handle="nobody-at-all.test"),
        (400, "HandleNotFound", "Unable to resolve handle"),
    ),
    "a post": (lambda c: c.create({}), OK),
    "an empty text": (lambda c: c.create({"text": ""}), OK),
    "300 graphemes": (lambda c: c.create({"text": "🇩🇪" * 300}), OK),
    "301 graphemes": (
        lambda c: c.create({"text": "x" * 301}),
        (400, "InvalidRequest", INVALID + "grapheme too big (maximum 300, got 301) at $.record.text"),
    ),
    "3025 bytes": (
        lambda c: c.create({"text": "👩‍👩‍👧‍👦" * 121}),
        (400, "InvalidRequest", INVALID + "string too big (maximum 3000, got 3025) at $.record.text"),
    ),
    "no createdAt": (
        lambda c: c.create({"createdAt": ...}),
        (400, "InvalidRequest", INVALID + 'Missing required key "createdAt" at $.record'),
    ),
    "a createdAt without a zone": (
        lambda c: c.create({"createdAt": "2026-11-22T10:00:00"}),
        (400, "InvalidRequest", INVALID + 'Invalid datetime (got "2026-11-22T10:00:00") at $.record.createdAt'),
    ),
    "a null": (
        lambda c: c.create({"langs": None}),
        (400, "InvalidRequest", INVALID + "Expected array value type (got null) at $.record.langs"),
    ),
    "a key that is no TID": (
        lambda c: c.create({}, rkey="hello-world"),
        (
            400,
            "InvalidRequest",
            'Invalid record key for app.bsky.feed.post: Invalid TID string (got "hello-world") at $',
        ),
    ),
    "a TID of 2020": (lambda c: c.create({}, rkey="3k22222222222"), OK),
    "a link that is none": (
        lambda c: c.create({"facets": [_facet({"$type": "app.bsky.richtext.facet#link", "uri": "not a uri"})]}),
        (400, "InvalidRequest", INVALID + 'Invalid uri (got "not a uri") at $.record.facets[0].features[0].uri'),
    ),
    "a mention by handle": (
        lambda c: c.create({"facets": [_facet({"$type": "app.bsky.richtext.facet#mention", "did": "alice.test"})]}),
        (400, "InvalidRequest", INVALID + 'Invalid DID (got "alice.test") at $.record.facets[0].features[0].did'),
    ),
    "200 writes": (lambda c: c.write(*(f"3kaaaaaaa{n:04}".translate(_DIGITS) for n in range(200))), OK),
    "201 writes": (
        lambda c: c.write(*(f"3kbbbbbbb{n:04}".translate(_DIGITS) for n in range(201))),
        (400, "InvalidRequest", "Too many writes. Max: 200"),
    ),
    "one key twice in one call": (lambda c: c.write("3kccccccccccc", "3kccccccccccc"), BROKEN),
    "somebody else's repository": (
        lambda c: Caller(c.pds, c.pds.create_account(), c.session).create({}),
        (401, "AuthenticationRequired", "Authentication Required"),
    ),
    "a repository that is elsewhere": (
        lambda c: c.post(CREATE, {"repo": "nobody.test", "collection": POST, "record": {}}),
        (403, "AccountNotFound", "Account not found"),
    ),
}


def _facet(feature: dict[str, str]) -> dict[str, Any]:
    return {"index": {"byteStart": 0, "byteEnd": 5}, "features": [feature]}


@pytest.mark.parametrize(("call", "expected"), CASES.values(), ids=CASES)
def test_an_answer(caller: Caller, call: Case, expected: Answer) -> None:
    assert said(call(caller)) == expected


class TestSessions:
    """Rotation, grace and revocation."""

    def test_tokens_live_two_hours_and_ninety_days(self, pds: Pds) -> None:
        session = fresh_caller(pds).session
        assert _lifetime(session["accessJwt"]) == 7200
        assert _lifetime(session["refreshJwt"]) == 7_776_000

    def test_a_used_refresh_token_gives_the_same_next_one_for_a_while(self, pds: Pds) -> None:
        caller = fresh_caller(pds)
        first, again = (caller.post(REFRESH, auth="Bearer " + caller.session["refreshJwt"]).json() for _ in range(2))
        assert claims(first["refreshJwt"])["jti"] == claims(again["refreshJwt"])["jti"]

    def test_an_access_token_outlives_the_refresh_that_replaced_it(self, pds: Pds) -> None:
        caller = fresh_caller(pds)
        caller.post(REFRESH, auth="Bearer " + caller.session["refreshJwt"])
        assert said(caller.create({})) == OK

    @pytest.mark.parametrize(
        ("happen", "logged_in", "refreshed", "written"),
        [
            (lambda pds, account: None, OK, OK, OK),
            (lambda pds, account: pds.revoke_app_password(account), NO_LOGIN, REVOKED, OK),
            (lambda pds, account: pds.change_password(account, "another main password"), OK, REVOKED, OK),
            (lambda pds, account: pds.deactivate(account), OK, OK, DEACTIVATED),
            (lambda pds, account: pds.take_down(account), NO_LOGIN, TAKEN_DOWN, TAKEN_DOWN),
            (lambda pds, account: pds.delete_account(account), NO_LOGIN, NOBODY, NOT_FOUND),
        ],
        ids=["nothing", "revoke", "change password", "deactivate", "take down", "delete"],
    )
    def test_each_change_of_an_account_ends_its_session_or_not(
        self, pds: Pds, happen: Callable[[Pds, Any], None], logged_in: Answer, refreshed: Answer, written: Answer
    ) -> None:
        caller = fresh_caller(pds)
        happen(pds, caller.account)
        assert said(caller.log_in()) == logged_in
        status, error, message = refreshed
        expected = (status, error, message and message.format(did=caller.account.did))
        assert said(caller.post(REFRESH, auth="Bearer " + caller.session["refreshJwt"])) == expected
        assert said(caller.create({})) == written

    @pytest.mark.parametrize(("blow", "status"), [("deactivate", "deactivated"), ("take_down", "takendown")])
    def test_an_accounts_status_is_told_without_a_password(self, pds: Pds, blow: str, status: str) -> None:
        caller = fresh_caller(pds)
        assert caller.get(STATUS, did=caller.account.did).json()["active"] is True
        getattr(pds, blow)(caller.account)
        found = caller.get(STATUS, did=caller.account.did).json()
        assert (found["active"], found["status"]) == (False, status)

    def test_a_deleted_account_has_no_status(self, pds: Pds) -> None:
        caller = fresh_caller(pds)
        pds.delete_account(caller.account)
        status, error, _ = said(caller.get(STATUS, did=caller.account.did))
        assert (status, error) == (400, "RepoNotFound")

    def test_a_write_against_another_commit_is_checked_and_not_made(self, pds: Pds) -> None:
        caller = fresh_caller(pds)
        caller.create({})
        record = {"$type": POST, "text": "a check", "createdAt": "2026-01-01T00:00:00Z"}
        body = {"repo": caller.account.did, "collection": POST, "record": record, "swapCommit": _NO_COMMIT}
        status, error, _ = said(caller.post(CREATE, body))
        assert (status, error) == (400, "InvalidSwap")
        assert len(pds.posts(caller.account)) == 1

    @pytest.mark.parametrize(
        ("main", "privileged", "scope"),
        [
            (True, False, "com.atproto.access"),
            (False, False, "com.atproto.appPass"),
            (False, True, "com.atproto.appPassPrivileged"),
        ],
    )
    def test_the_scope_says_which_password_it_was(self, pds: Pds, main: bool, privileged: bool, scope: str) -> None:
        caller = fresh_caller(pds)
        password = (
            caller.account.password if main else pds.create_app_password(caller.account, "other", privileged=privileged)
        )
        found = claims(caller.log_in(password=password).json()["accessJwt"])
        assert (found["scope"], found["sub"]) == (scope, caller.account.did)


class TestWrites:
    """A key stands for a single post."""

    def test_an_existing_key_is_answered_with_500_even_for_the_same_post(self, pds: Pds) -> None:
        caller = fresh_caller(pds)
        assert said(caller.write("3kaaaaaaaaaaa")) == OK
        assert said(caller.write("3kaaaaaaaaaaa")) == BROKEN
        assert said(caller.create({}, rkey="3kaaaaaaaaaaa")) == BROKEN

    def test_a_batch_is_written_whole_or_not_at_all(self, pds: Pds) -> None:
        caller = fresh_caller(pds)
        caller.write("3kaaaaaaaaaaa")
        assert said(caller.write("3kbbbbbbbbbbb", "3kaaaaaaaaaaa")) == BROKEN
        assert len(pds.posts(caller.account)) == 1

    def test_a_missing_record_is_said_to_be_missing(self, pds: Pds) -> None:
        caller = fresh_caller(pds)
        status, error, _ = said(caller.get(GET, repo=caller.account.did, collection=POST, rkey="3aaaaaaaaaa2a"))
        assert (status, error) == (400, "RecordNotFound")

    def test_a_record_is_read_without_signing_in(self, pds: Pds) -> None:
        caller = fresh_caller(pds)
        uri = caller.write("3kaaaaaaaaaaa").json()["results"][0]["uri"]
        found = caller.get(GET, repo=caller.account.did, collection=POST, rkey="3kaaaaaaaaaaa").json()
        assert found["uri"] == uri
        assert found["value"]["text"] == "hello"


def _lifetime(token: str) -> int:
    found = claims(token)
    return int(found["exp"] - found["iat"])
