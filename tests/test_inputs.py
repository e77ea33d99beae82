"""Values as a person writes them: brought into one form, or refused with the field and the remedy."""

import pytest
from prefect_aws import AwsCredentials
from pydantic import SecretStr, ValidationError

from prefect_bluesky import BlueskyCredentials
from prefect_bluesky.errors import InvalidInput

GOOD = {"handle": "alice.bsky.social", "app_password": "abcd-efgh-2345-6723"}


@pytest.mark.parametrize(
    ("field", "given", "kept"),
    [
        ("handle", "alice.bsky.social", "alice.bsky.social"),
        ("handle", "@alice.bsky.social", "alice.bsky.social"),
        ("handle", "  Alice.BSKY.social\n", "alice.bsky.social"),
        ("handle", "\u202a@alice.bsky.social\u202c", "alice.bsky.social"),
        ("handle", "xn--bcher-kva.example", "xn--bcher-kva.example"),
        ("handle", "did:plc:ewvi7nxzyoun6zhxrhs64oiz", "did:plc:ewvi7nxzyoun6zhxrhs64oiz"),
        ("handle", "did:web:Example.com%3A3000", "did:web:Example.com%3A3000"),
        ("service_url", "https://bsky.social/", "https://bsky.social"),
        ("service_url", " https://PDS.example.com:8443/xrpc ", "https://pds.example.com:8443"),
        ("service_url", "http://localhost:2583", "http://localhost:2583"),
        ("service_url", "http://127.0.0.9", "http://127.0.0.9"),
        ("service_url", "http://[::1]:2583/", "http://[::1]:2583"),
        ("secret_prefix", "/team/bluesky/", "team/bluesky"),
    ],
)
def test_values_are_brought_into_one_form(field: str, given: str, kept: str) -> None:
    assert getattr(BlueskyCredentials.model_validate({**GOOD, field: given}), field) == kept


@pytest.mark.parametrize(
    ("field", "given", "remedy"),
    [
        ("handle", "", "Write it in full"),
        ("handle", "alice", "it has no domain"),
        ("handle", "alice@example.com", "Write it in full"),
        ("handle", "https://bsky.app/profile/alice.bsky.social", "Write it in full"),
        ("handle", "alice..social", "Write it in full"),
        ("handle", "alice.123", "Write it in full"),
        ("handle", f"{'a' * 64}.test", "Write it in full"),
        ("handle", "abcd-efgh-2345-6723", "Put it into app_password"),
        ("handle", "did:plc:", "A DID looks like"),
        ("handle", "did:PLC:abc", "A DID looks like"),
        ("app_password", "", "Fill in the app password or the AWS credentials"),
        ("app_password", "  \n", "Create one"),
        ("app_password", "**********", "saved block"),
        ("app_password", "'abcd-efgh-2345-6723'", "between them"),
        ("app_password", '"abcd-efgh-2345-6723"', "between them"),
        ("app_password", "abcd-efgh\n-2345-6723", "in one line"),
        ("app_password", "abcd-efgh\u200b-2345-6723", "in one line"),
        ("service_url", "bsky.social", "Write it like"),
        ("service_url", "http://bsky.social", "Use https"),
        ("service_url", "http://127.0.0.1.example.com", "Use https"),
        ("service_url", "ftp://bsky.social", "Write it like"),
        ("service_url", "https://", "Write it like"),
        ("service_url", "https://[::1", "Write it like"),
        ("service_url", "https://bsky.social:port", "Write it like"),
        ("service_url", "https://bsky social", "Write it like"),
        ("service_url", "https://bücher.example", "in ASCII"),
        ("service_url", "https://" + "a" * 64 + ".example", "in ASCII"),
        ("app_password", "abcd-efgh-\ud83d", "in one line"),
        ("service_url", "https://alice:secret@bsky.social", "Write it like"),
        ("service_url", "https://bsky.social/profile/alice", "Write it like"),
        ("service_url", "https://bsky.social?x=1", "Write it like"),
        ("secret_prefix", "", "letters, digits"),
        ("secret_prefix", "with spaces", "letters, digits"),
    ],
)
def test_an_unusable_value_is_refused_with_its_field_and_the_remedy(field: str, given: str, remedy: str) -> None:
    with pytest.raises(InvalidInput, match=remedy) as refusal:
        BlueskyCredentials.model_validate({**GOOD, field: given})
    assert refusal.value.field == field
    assert str(refusal.value).startswith(f"{field}: ")
    assert not refusal.value.retryable


@pytest.mark.parametrize(
    ("field", "given"),
    [
        ("handle", "abcd-efgh-2345-6723"),
        ("service_url", "https://alice:abcd-efgh@bsky.social"),
        ("service_url", "https://bsky.social?password=abcd-efgh"),
    ],
)
def test_a_secret_in_the_wrong_field_is_not_shown(field: str, given: str) -> None:
    with pytest.raises(InvalidInput) as refusal:
        BlueskyCredentials.model_validate({**GOOD, field: given})
    assert "abcd-efgh" not in f"{refusal.value} {refusal.value!r}"


@pytest.mark.parametrize("given", ["'hunter-two'", "hunter\ntwo", {"value": "hunter"}, ["hunter"]])
def test_no_refusal_shows_the_app_password(given: object) -> None:
    with pytest.raises((InvalidInput, ValidationError)) as refusal:
        BlueskyCredentials.model_validate({**GOOD, "app_password": given})
    assert "hunter" not in f"{refusal.value} {refusal.value!r}"


def test_a_misspelt_field_is_refused_by_its_name() -> None:
    with pytest.raises(ValidationError, match="service_ulr"):
        BlueskyCredentials.model_validate({**GOOD, "service_ulr": "https://pds.example.com"})


def test_surrounding_space_of_an_app_password_is_dropped() -> None:
    credentials = BlueskyCredentials.model_validate({**GOOD, "app_password": " abcd-efgh-2345-6723\r\n"})
    assert credentials.app_password is not None
    assert credentials.app_password.get_secret_value() == "abcd-efgh-2345-6723"


def test_no_form_of_the_block_shows_a_secret() -> None:
    credentials = BlueskyCredentials(
        handle="alice.bsky.social",
        app_password=SecretStr("abcd-efgh-2345-6723"),
        aws_credentials=AwsCredentials(aws_access_key_id="AKIA", aws_secret_access_key=SecretStr("hunter2")),
    )
    shown = f"{credentials} {credentials!r} {credentials.model_dump_json()}"
    assert "abcd-efgh" not in shown
    assert "hunter2" not in shown
