"""Answer calls: make the checks that come before every method, and shape the answer.

The checks have the order of a PDS: HTTP method, query parameters, authorization, body. Therefore a bad token is
reported before a bad body.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from starlette.datastructures import QueryParams

from .lexicon import Check, Invalid
from .refusal import Refusal, bad_request

JSON_LIMIT = 150 * 1024
BLOB_LIMIT = 5 * 1024 * 1024

Claims = dict[str, Any]
Json = dict[str, Any]


@dataclass
class Call:
    """An incoming call.

    Attributes:
        nsid: the XRPC method, or an endpoint of OAuth such as "oauth/token".
        did: the account that makes the call, once known.
        headers_of_answer: headers that the answer has, whatever it says.
    """

    nsid: str
    verb: str
    path: str
    headers: Mapping[str, str] = field(repr=False)
    query: QueryParams
    content: bytes = field(repr=False)
    did: str | None = None
    headers_of_answer: dict[str, str] = field(default_factory=dict)

    @property
    def authorization(self) -> str | None:
        """The Authorization header."""
        return self.headers.get("authorization")


@dataclass(frozen=True)
class Answer:
    """An answer: JSON, or bytes with a content type in the headers. A body of None is empty."""

    status: int
    body: Json | bytes | None = field(repr=False)
    headers: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, refusal: Refusal) -> "Answer":
        """Return the answer for a refusal."""
        return cls(refusal.status, {"error": refusal.error, "message": refusal.message}, refusal.headers)


@dataclass(frozen=True)
class Arguments:
    """The arguments of a method, after all checks."""

    params: Json
    claims: Claims = field(repr=False)
    body: Json = field(repr=False)
    blob: bytes = field(repr=False)
    content_type: str


@dataclass(frozen=True)
class Method:
    """An XRPC method.

    Attributes:
        handle: does the work; returns the answer or only its JSON, or raises `Refusal`.
        verb: the required HTTP method.
        params: checks the query.
        auth: returns the claims of who makes the call, or raises `Refusal`.
        body: checks the JSON body; None for a method without one; "blob" for raw bytes.
        limit: the maximum size of a JSON body, in bytes.
    """

    handle: Callable[[Call, Arguments], Answer | Json | None]
    verb: Literal["GET", "POST"] = "GET"
    params: Check | None = None
    auth: Callable[[Call], Claims] | None = None
    body: Check | Literal["blob"] | None = None
    limit: int = JSON_LIMIT


def answer(methods: Mapping[str, Method], call: Call) -> Answer:
    """Answer any call."""
    given = _given(methods, call)
    return replace(given, headers={**call.headers_of_answer, **given.headers})


def _given(methods: Mapping[str, Method], call: Call) -> Answer:
    try:
        method = methods.get(call.nsid)
        if method is None:
            raise bad_request(f"No service configured for {call.nsid}")
        if call.verb not in ("GET", "HEAD", "POST"):
            raise bad_request("XRPC requests only supports GET and POST")
        if call.verb != method.verb:
            raise bad_request(f"Incorrect HTTP method ({call.verb}) expected {method.verb}")
        body = method.handle(call, _arguments(method, call))
        return body if isinstance(body, Answer) else Answer(200, body)
    except Refusal as refusal:
        return Answer.of(refusal)


def _arguments(method: Method, call: Call) -> Arguments:
    params = _params(method.params, call) if method.params else {}
    claims = method.auth(call) if method.auth else {}
    if method.body is None:
        if call.content:
            raise bad_request("A request body was provided when none was expected")
        return Arguments(params, claims, {}, b"", "")
    content_type = _content_type(call)
    if method.body == "blob":
        if len(call.content) > BLOB_LIMIT:
            raise Refusal(413, "PayloadTooLarge", "request entity too large")
        return Arguments(params, claims, {}, call.content, content_type)
    if content_type != "application/json":
        raise bad_request(f"Wrong request encoding (Content-Type): {content_type}")
    if len(call.content) > method.limit:
        raise Refusal(413, "PayloadTooLargeError", "request entity too large")
    body = _parse_json(call.content)
    try:
        method.body(body, ())
    except Invalid as invalid:
        raise bad_request(str(invalid)) from None
    return Arguments(params, claims, body, b"", content_type)


def _params(check: Check, call: Call) -> Json:
    read: Json = {name: value for name, value in call.query.items() if value}
    if "uris" in read:
        read["uris"] = call.query.getlist("uris")
    for name in ("limit", "exp"):
        if read.get(name, "").removeprefix("-").isdecimal():
            read[name] = int(read[name])
    if read.get("reverse") in ("true", "false"):
        read["reverse"] = read["reverse"] == "true"
    try:
        check(read, ())
    except Invalid as invalid:
        raise bad_request(f"Invalid {call.nsid} params: {invalid.message}") from None
    return read


def _content_type(call: Call) -> str:
    if "content-length" not in call.headers and "transfer-encoding" not in call.headers:
        raise bad_request("A request body is expected but none was provided")
    declared = call.headers.get("content-type", "").split(";")[0].strip()
    if not declared:
        raise bad_request("Request encoding (Content-Type) required but not provided")
    return declared


def _parse_json(content: bytes) -> Any:
    text = content.decode("utf-8", "replace")
    if not text:
        return {}
    try:
        body = json.loads(text, parse_float=_number, parse_constant=_no_constant)
    except json.JSONDecodeError as error:
        raise _no_json(text, error.pos) from None
    if not isinstance(body, dict | list):
        raise _no_json(text, 0)
    return _without_lone_surrogates(body)


def _no_json(text: str, position: int) -> Refusal:
    """Return nearly the message of JavaScript, which distinguishes some more cases."""
    what = f"Unexpected token '{text[position]}', \"{text}\"" if position < len(text) else ""
    return bad_request(f"{what} is not valid JSON" if what else "Unexpected end of JSON input", "SyntaxError")


def _number(text: str) -> int | float:
    number = float(text)
    return int(number) if number.is_integer() else number  # JavaScript treats 1.0 as a whole number


def _no_constant(name: str) -> Any:
    raise json.JSONDecodeError("not JSON", name, 0)


def _without_lone_surrogates(value: Any) -> Any:
    """Replace lone surrogates, as JavaScript does, because UTF-8 cannot contain them."""
    if isinstance(value, str):
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if isinstance(value, list):
        return [_without_lone_surrogates(item) for item in value]
    if isinstance(value, dict):
        return {_without_lone_surrogates(key): _without_lone_surrogates(item) for key, item in value.items()}
    return value
