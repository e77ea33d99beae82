"""Record keys and CIDs, known before anything is sent."""

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from prefect_bluesky.protocol.records import blob_reference, cid, record_keys

DID = "did:plc:ewvi7nxzyoun6zhxrhs64oiz"
MOMENT = datetime(2026, 11, 22, 12, tzinfo=UTC)
TID_ALPHABET = "234567abcdefghijklmnopqrstuvwxyz"

moments = st.datetimes(datetime(2023, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC))
texts = st.text(st.characters(codec="utf-8"))


def number(rkey: str) -> int:
    """The number that a TID writes."""
    value = 0
    for character in rkey:
        value = value * 32 + TID_ALPHABET.index(character)
    return value


@given(texts, st.none() | moments)
def test_a_record_key_is_a_tid_and_always_the_same(key: str, planned_at: datetime | None) -> None:
    (rkey,) = record_keys(DID, key, planned_at)
    assert len(rkey) == 13
    assert set(rkey) <= set(TID_ALPHABET)
    assert rkey[0] in "234567abcdefghij"
    assert [rkey] == record_keys(DID, key, planned_at)


@given(moments, texts)
def test_a_planned_time_is_the_time_of_the_key(planned_at: datetime, key: str) -> None:
    (rkey,) = record_keys(DID, key, planned_at)
    moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=number(rkey) >> 10)
    assert planned_at - timedelta(minutes=1) < moment <= planned_at


@given(texts, st.none() | moments, st.integers(1, 100))
def test_the_keys_of_a_thread_begin_with_that_of_its_first_post_and_keep_its_order(
    key: str, planned_at: datetime | None, count: int
) -> None:
    rkeys = record_keys(DID, key, planned_at, count=count)
    assert rkeys[0] == record_keys(DID, key, planned_at)[0]
    assert len(set(rkeys)) == count
    assert rkeys == sorted(rkeys)


def test_keys_tell_accounts_keys_and_times_apart() -> None:
    rkeys = {
        rkey
        for arguments in (
            (DID, "a"),
            (DID, "b"),
            (DID + "x", "a"),
            (DID, "a", MOMENT),
            (DID, "a", MOMENT + timedelta(minutes=2)),
            (DID, "b", MOMENT),
        )
        for rkey in record_keys(*arguments)
    }
    assert len(rkeys) == 6


def test_two_hundred_threads_of_one_moment_do_not_meet() -> None:
    rkeys = {rkey for thread in range(200) for rkey in record_keys(DID, f"thread {thread}", MOMENT, count=100)}
    assert len(rkeys) == 200 * 100


def test_a_blob_has_the_cid_that_a_real_pds_answered() -> None:
    # To 7 bytes of JSON; measured, as are those of records in tests/contract.
    assert blob_reference(b'{"a":1}', "application/json") == {
        "$type": "blob",
        "ref": {"$link": "bafkreiablk6x6xgfpiw5ss3vsdyevwaiijzzaxxdh3c45pvomitwvf7ymi"},
        "mimeType": "application/json",
        "size": 7,
    }


def test_a_record_that_links_to_a_blob_has_another_cid_than_one_that_names_it() -> None:
    link = blob_reference(b"x", "image/png")["ref"]
    assert cid({"link": link}) != cid({"link": link["$link"]})
