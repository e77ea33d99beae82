"""OAuth without a server: keys, scopes, clients and what is refused before anything is sent."""

from __future__ import annotations

import json
from base64 import urlsafe_b64decode
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from prefect_bluesky import BlueskyOAuthClient, sandbox
from prefect_bluesky.errors import InvalidInput, RequestRefused, ServiceUnavailable
from prefect_bluesky.protocol.oauth import (
    AuthorizationServer,
    Client,
    SigningKey,
    Tokens,
    allows_blob,
    allows_call,
    allows_record,
    learn,
    proof,
    scope_of,
)
from prefect_bluesky.protocol.oauth.server import _result
from prefect_bluesky.web import Answer, ask
from tests.support import web_page


def decoded(part: str) -> bytes:
    return urlsafe_b64decode(f"{part}{'=' * (-len(part) % 4)}")


class TestKeys:
    """Keys, which sign and are stored."""

    def test_anyone_with_the_public_key_can_check_what_is_signed(self) -> None:
        key = SigningKey.new()
        header, claims, signature = key.sign({"kid": "k"}, {"sub": "s"}).split(".")
        x, y = (int.from_bytes(decoded(key.public[name])) for name in "xy")
        numbers = (int.from_bytes(decoded(signature)[start : start + 32]) for start in (0, 32))
        public = ec.EllipticCurvePublicNumbers(x, y, ec.SECP256R1()).public_key()
        public.verify(encode_dss_signature(*numbers), f"{header}.{claims}".encode(), ec.ECDSA(hashes.SHA256()))
        assert json.loads(decoded(header)) == {"alg": "ES256", "kid": "k"}
        assert json.loads(decoded(claims)) == {"sub": "s"}

    def test_a_stored_key_is_the_same_key(self) -> None:
        key = SigningKey.new()
        assert SigningKey.from_text(key.to_text()).public == key.public

    @pytest.mark.parametrize("shown", [repr, str, lambda key: repr(Client("https://a.test/c.json", "r", key))])
    def test_no_text_shows_the_key(self, shown: Any) -> None:
        key = SigningKey.new()
        assert json.loads(key.to_text())["d"] not in shown(key)

    @pytest.mark.parametrize(
        "change",
        [
            lambda members: "",
            lambda members: "[]",
            lambda members: json.dumps(members)[:-1],
            lambda members: json.dumps({name: members[name] for name in members if name != "d"}),
            lambda members: json.dumps(members | {"d": "AAAA"}),
            lambda members: json.dumps(members | {"d": 7}),
            lambda members: json.dumps(members | {"d": members["x"]}),
            lambda members: json.dumps(members | {"crv": "P-384"}),
        ],
        ids=["nothing", "a list", "cut off", "public", "zero", "a number", "another key", "another curve"],
    )
    def test_what_is_no_key_is_refused_without_being_shown(self, change: Any) -> None:
        members = json.loads(SigningKey.new().to_text())
        with pytest.raises(InvalidInput, match="the text is no private key for ES256") as refused:
            SigningKey.from_text(change(members))
        assert members["d"] not in str(refused.value)


class TestScopes:
    """What is asked for, and what a granted scope means."""

    def test_the_default_is_to_create_posts_and_gates_with_pictures(self) -> None:
        assert scope_of() == (
            "atproto repo?collection=app.bsky.feed.post&collection=app.bsky.feed.threadgate"
            "&collection=app.bsky.feed.postgate&action=create blob:image/*"
        )

    def test_a_right_that_is_misspelt_is_answered_with_the_nearest(self) -> None:
        with pytest.raises(InvalidInput, match=r"there is no right 'delet'\. Did you mean delete\?"):
            scope_of(["create", "delet"])

    @pytest.mark.parametrize(
        ("scope", "collection", "action", "is_allowed"),
        [
            ("", "a.b.c", "create", False),
            ("repo:a.b.c", "a.b.c", "update", True),
            ("repo:a.b.c", "a.b.d", "create", False),
            ("repo:a.b.c?action=create", "a.b.c", "create", True),
            ("repo:a.b.c?action=create", "a.b.c", "delete", False),
            ("repo:a.b.c?action=create&action=delete", "a.b.c", "delete", True),
            ("repo:*?action=delete", "a.b.c", "delete", True),
            ("repo?collection=a.b.c&collection=a.b.d&action=create", "a.b.d", "create", True),
            ("transition:generic", "a.b.c", "delete", True),
            ("blob:a.b.c", "a.b.c", "create", False),
        ],
    )
    def test_a_scope_allows_the_records_that_it_names(
        self, scope: str, collection: str, action: str, is_allowed: bool
    ) -> None:
        assert allows_record(f"atproto {scope}", collection, action) is is_allowed

    @pytest.mark.parametrize(
        ("scope", "is_allowed"),
        [("rpc:a.b.c?aud=*", True), ("rpc?lxm=a.b.c&aud=*", True), ("rpc:*?aud=x", True), ("rpc:a.b.d?aud=*", False)],
    )
    def test_a_scope_allows_the_calls_that_it_names(self, scope: str, is_allowed: bool) -> None:
        assert allows_call(f"atproto {scope}", "a.b.c") is is_allowed

    def test_an_app_password_allows_everything_that_is_published(self) -> None:
        scope = "com.atproto.appPass"
        assert allows_record(scope, "a.b.c", "create")
        assert allows_blob(scope, "video/mp4")
        assert allows_call(scope, "a.b.c")


class TestClients:
    """Clients and their documents."""

    @pytest.mark.parametrize("field", ["url", "rights"])
    def test_a_key_in_the_wrong_field_is_refused_and_not_shown(self, field: str) -> None:
        key = SigningKey.new().to_text()
        with pytest.raises(InvalidInput) as refused:
            BlueskyOAuthClient(**{"url": "https://bot.test", "key": key, field: key})
        assert json.loads(key)["d"] not in str(refused.value)

    @pytest.mark.parametrize(
        "url", ["http://a.test/x", "a.test", "https://", "https://u@a.test/", "https://a.test/?x", "https://a.test/#x"]
    )
    def test_a_folder_that_no_server_would_read_is_refused(self, url: str) -> None:
        with pytest.raises(InvalidInput, match="is not the https:// URL of a folder"):
            Client.hosted(url, SigningKey.new())

    def test_a_document_has_public_keys_only(self) -> None:
        newer, older = SigningKey.new(), SigningKey.new()
        keys = Client.hosted("https://a.test/x/", newer).document(scope_of(), others=[older])["jwks"]["keys"]
        assert [key["kid"] for key in keys] == [newer.thumbprint, older.thumbprint]
        assert {name for key in keys for name in key} == {"kty", "crv", "x", "y", "kid", "use", "alg"}


ISSUER = "https://a.test"
SERVER = AuthorizationServer(ISSUER, f"{ISSUER}/authorize", f"{ISSUER}/par", f"{ISSUER}/token", f"{ISSUER}/revoke")
TOKENS = {
    "access_token": "a", "refresh_token": "r", "token_type": "DPoP", "scope": "atproto", "expires_in": 3600,
    "sub": "did:plc:x",
}  # fmt: skip


class TestAnswers:
    """Answers of servers, and of what stands before them."""

    @pytest.mark.parametrize(
        "change",
        [
            {"token_type": "Bearer"}, {"access_token": "a\nb"}, {"access_token": 7}, {"refresh_token": None},
            {"expires_in": 0}, {"expires_in": "3600"}, {"sub": None}, {"scope": None},
        ],
        ids=str,
    )  # fmt: skip
    def test_what_is_no_session_is_passing_trouble(self, change: dict[str, Any]) -> None:
        assert Tokens.of(TOKENS, SERVER).scope == "atproto"
        with pytest.raises(ServiceUnavailable, match="no tokens of a session"):
            Tokens.of(TOKENS | change, SERVER)

    def test_no_text_shows_a_token(self) -> None:
        shown = repr(Tokens.of(TOKENS | {"access_token": "secret-a", "refresh_token": "secret-r"}, SERVER))
        assert "secret" not in shown

    @pytest.mark.parametrize(
        ("status", "body", "kind"),
        [
            (400, b'{"error": "invalid_grant"}', RequestRefused),
            (404, b"<html>", RequestRefused),
            (400, b"<html>", ServiceUnavailable),
            (200, b"<html>", ServiceUnavailable),
            (500, b'{"error": "server_error"}', ServiceUnavailable),
            (503, b"", ServiceUnavailable),
        ],
    )
    def test_only_a_servers_own_word_is_a_refusal(self, status: int, body: bytes, kind: type[Exception]) -> None:
        with pytest.raises(kind):
            _result(Answer(status, {}, body), "https://a.test/oauth/token")  # type: ignore[arg-type]

    def test_each_request_that_is_refused_learns_the_nonce_that_another_has_learned_already(self) -> None:
        url, key = "https://a.test/oauth/token", SigningKey.new()
        sent = [proof(key, "POST", url) for _ in range(2)]
        news = {"dpop-nonce": "next"}
        assert [learn(url, news, each) for each in sent] == [True, True]
        assert not learn(url, news, proof(key, "POST", url))

    def test_a_private_address_is_not_asked(self, pds: sandbox.Sandbox) -> None:
        with pytest.raises(ServiceUnavailable, match="which is not a public address") as refused:
            ask("GET", f"{pds.url}/xrpc/_health")
        assert (refused.value.was_sent, refused.value.retryable) == (False, False)

    def test_a_pds_without_oauth_is_named(self) -> None:
        with web_page(b"Not Found", status=404) as url, pytest.raises(RequestRefused, match="there is no OAuth here"):
            AuthorizationServer.of(url)
