"""The label by which an account says that a program writes its posts, on the sandbox and on a real PDS."""

from __future__ import annotations

from typing import Any

from prefect_bluesky import BlueskyCredentials
from tests.support import Pds, block, record_at

PROFILE = "app.bsky.actor.profile"


def put_profile(credentials: BlueskyCredentials, did: str, **fields: Any) -> None:
    record = {"$type": PROFILE, **fields}
    data: Any = {"repo": did, "collection": PROFILE, "rkey": "self", "record": record}
    credentials.get_client().com.atproto.repo.put_record(data)


def labels(pds: Pds, did: str) -> tuple[dict[str, Any], list[str]]:
    """Return the profile, and the labels in it."""
    profile = record_at(pds, f"at://{did}/{PROFILE}/self")["value"]
    return profile, [each["val"] for each in profile.pop("labels")["values"]]


def test_the_profile_gets_the_label_once(pds: Pds) -> None:
    account = pds.create_account()
    credentials = block(pds, account)
    assert [credentials.label_as_bot() for _ in range(2)] == [True, False]
    assert labels(pds, account.did)[1] == ["bot"]


def test_the_rest_of_the_profile_stays(pds: Pds) -> None:
    account = pds.create_account()
    credentials = block(pds, account)
    own = {"$type": "com.atproto.label.defs#selfLabels", "values": [{"val": "!no-unauthenticated"}]}
    put_profile(credentials, account.did, displayName="News", description="Of the day", labels=own)
    assert credentials.label_as_bot()
    profile, given = labels(pds, account.did)
    assert (profile["displayName"], profile["description"], given) == (
        "News",
        "Of the day",
        ["!no-unauthenticated", "bot"],
    )


def test_a_diagnosis_looks_for_it_if_it_is_asked_to(pds: Pds) -> None:
    credentials = block(pds, pds.create_account())
    credentials.ensure_session()

    def found() -> list[str]:
        return [check.found for check in credentials.diagnose(is_bot=True).checks if check.name == "Label"]

    before = found()
    credentials.label_as_bot()
    assert "label_as_bot() does" in before[0] or "cannot be read" in before[0]
    assert found() == ["the profile says that a program writes the posts"]
    assert "Label" not in [check.name for check in credentials.diagnose().checks]
