"""A stand-in for Mastodon: the part of its API that a publisher uses, with its own counter, over HTTP on loopback."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.parser import BytesParser
from email.policy import HTTP
from itertools import count
from threading import Lock
from typing import Any
from urllib.parse import parse_qs, urlsplit

import regex
from twitter_text import extract_urls_with_indices

from tests.support import QuietHandler, http_server

# app/models/account.rb of Mastodon 4.5
_USERNAME = r"[a-z0-9_]+(?:[.-]+[a-z0-9_]+)*"
_MENTION = re.compile(rf"(?<![=/\w])@({_USERNAME})@\w+(?:[.-]+\w+)*", re.IGNORECASE)

Json = dict[str, Any]


def countable_length(text: str) -> int:
    """Return the length of a status by the rules of Mastodon 4.5 (app/validators/status_length_validator.rb)."""
    pieces, last = [], 0
    spans = [(*url["indices"], "x" * 23) for url in extract_urls_with_indices(text, False)]
    spans += [(*found.span(), f"@{found[1]}") for found in _MENTION.finditer(text)]
    for start, end, counted in sorted(spans):
        if start >= last:
            pieces += [text[last:start], counted]
            last = end
    return len(regex.findall(r"\X", "".join([*pieces, text[last:]])))


@dataclass
class MastodonServer:
    """An instance with one account.

    Attributes:
        statuses: what is published, the oldest first.
        media: what was uploaded, by its id.
        max_characters: its limit.
        tells_limits: whether it says what they are, as Mastodon does.
        token: the access token that it takes.
        before: called with each request before it is dealt with; a status that it returns is the answer.
        is_masked: whether what `before` answers is a firewall's page.
        replays: whether a key may be used again; if not, a 500 is the answer, as in mastodon#40399.
        after: called with each request that was dealt with; whether its answer is lost.
    """

    url: str = ""
    statuses: list[Json] = field(default_factory=list)
    media: dict[str, Json] = field(default_factory=dict)
    keys: dict[str, Json] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)
    max_characters: int = 500
    tells_limits: bool = True
    is_masked: bool = False
    replays: bool = True
    token: str = "good-token"
    before: Callable[[str], int | None] = lambda request: None
    after: Callable[[str], bool] = lambda request: False
    _ids: Iterator[int] = field(default_factory=lambda: count(115_000_000_000_000_000))
    _lock: Lock = field(default_factory=Lock)

    def an_hour_later(self) -> None:
        """Forget the idempotency keys."""
        self.keys.clear()

    def texts(self) -> list[str]:
        """The published statuses, the oldest first."""
        return [status["text"] for status in self.statuses]

    def answer(self, method: str, path: str, params: Json, headers: Any) -> tuple[int, Any]:
        """Return the answer to a request."""
        if path.rstrip("/") == "/api/v2/instance":
            return 200, self._instance()
        if headers.get("Authorization") != f"Bearer {self.token}":
            return 401, {"error": "The access token is invalid"}
        with self._lock:
            match method, path.strip("/").split("/")[2:]:
                case "GET", ["accounts", "verify_credentials"]:
                    return 200, {"id": "1", "acct": "alice", "username": "alice"}
                case "GET", ["accounts", "1", "statuses"]:
                    return 200, self._page(params)
                case "POST", ["media"]:
                    return 202, self._upload(params)
                case "GET", ["media", name]:
                    # Worked on meanwhile.
                    self.media[name]["url"] = f"{self.url}/media/{name}"
                    return 200, self.media[name]
                case "POST", ["statuses"]:
                    return self._publish(params, headers.get("Idempotency-Key"))
                case "GET", ["statuses", name, "source"]:
                    found = next(status for status in self.statuses if status["id"] == name)
                    return 200, {"id": name, "text": found["text"], "spoiler_text": ""}
        return 404, {"error": "Record not found"}

    def _instance(self) -> Json:
        if not self.tells_limits:
            return {"domain": "social.test", "version": "4.5.0", "configuration": {}}
        return {
            "domain": "social.test",
            "version": "4.5.0",
            "configuration": {
                "statuses": {
                    "max_characters": self.max_characters,
                    "max_media_attachments": 4,
                    "characters_reserved_per_url": 23,
                },
                "media_attachments": {
                    "description_limit": 1500,
                    "image_size_limit": 16_777_216,
                    "image_matrix_limit": 33_177_600,
                },
            },
        }

    def _page(self, params: Json) -> list[Json]:
        older = [status for status in self.statuses if "max_id" not in params or status["id"] < params["max_id"]]
        return older[::-1][: int(params.get("limit", 20))]

    def _upload(self, params: Json) -> Json:
        name = str(next(self._ids))
        self.media[name] = {
            "id": name,
            "type": "image",
            "url": None,
            "description": params.get("description"),
            "size": len(params["file"]),
        }
        return self.media[name]

    def _publish(self, params: Json, key: str | None) -> tuple[int, Json]:
        if key and key in self.keys:
            return (200, self.keys[key]) if self.replays else (500, {"error": "This page is not correct"})
        text = params.get("status", "").strip()
        media = [self.media.get(name) for name in params.get("media_ids[]", [])]
        if not text and not media:
            return 422, {"error": "Validation failed: Text can't be blank"}
        if countable_length(text) > self.max_characters:
            return 422, {"error": f"Validation failed: Text character limit of {self.max_characters} exceeded"}
        if any(each is None or each["url"] is None for each in media):
            return 422, {"error": "Cannot attach files that have not finished processing. Try again in a moment!"}
        name = str(next(self._ids))
        status = {
            "id": name,
            "uri": f"{self.url}/users/alice/statuses/{name}",
            "url": f"{self.url}/@alice/{name}",
            "created_at": datetime.now(UTC).isoformat(),
            "in_reply_to_id": params.get("in_reply_to_id"),
            "language": params.get("language"),
            "media_attachments": media,
            "content": "",
            "text": text,
        }
        self.statuses.append(status)
        if key:
            self.keys[key] = status
        return 200, status


@contextmanager
def run() -> Iterator[MastodonServer]:
    """An instance, until the context ends."""
    instance = MastodonServer()

    class Handler(QuietHandler):
        def _deal(self) -> None:
            split = urlsplit(self.path)
            sent = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            request = f"{self.command} {split.path.rstrip('/')}"
            instance.requests.append(request)
            status: int | None = instance.before(request)
            content: Any = {"error": "as it was told"}
            if status is None:
                params = _params(split.query, sent, self.headers)
                status, content = instance.answer(self.command, split.path, params, self.headers)
            if instance.after(request):
                self.close_connection = True
                self.connection.close()
                return
            page = instance.is_masked and content == {"error": "as it was told"}
            body = b"<html>Access denied</html>" if page else json.dumps(content).encode()
            self.answer(status, body, Content_Type="text/html" if page else "application/json")

        do_GET = do_POST = _deal

    with http_server(Handler) as port:
        instance.url = f"http://127.0.0.1:{port}"
        yield instance


def _params(query: str, body: bytes, headers: Any) -> Json:
    kind = headers.get("Content-Type", "")
    if kind.startswith("application/json"):
        return dict(json.loads(body or b"{}"))
    if kind.startswith("multipart/form-data"):
        message = BytesParser(policy=HTTP).parsebytes(f"Content-Type: {kind}\r\n\r\n".encode() + body)
        return {
            str(part.get_param("name", header="content-disposition")): (
                part.get_payload(decode=True) if part.get_filename() else part.get_content().rstrip("\r\n")
            )
            for part in message.iter_parts()
        }
    pairs = parse_qs(f"{query}&{body.decode()}".strip("&"), keep_blank_values=True)
    return {name: values if name.endswith("[]") else values[0] for name, values in pairs.items()}
