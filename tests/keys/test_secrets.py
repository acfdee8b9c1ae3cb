"""The text of a key: made at random, kept as a hash, and compared in constant time."""

from __future__ import annotations

import pytest

from deployments.keys.records import Key
from deployments.keys.secrets import hash_of, id_of, known, new_id, new_key

NOW_S = 1_000.0


def kept(key: str, **changes: object) -> Key:
    return Key(id=str(id_of(key)), name="tom", hash=hash_of(key), **changes)  # type: ignore[arg-type]


def opens(text: str, *keys: Key) -> bool:
    return known(text, {key.id: key for key in keys}, NOW_S) is not None


def test_a_new_key_has_its_id_and_256_random_bits() -> None:
    id = new_id()

    keys = {new_key(id) for _ in range(100)}

    assert len(keys) == 100
    assert {id_of(key) for key in keys} == {id}
    assert {len(key.rpartition(f"{id}-")[2]) for key in keys} == {43}  # 256 / 6 bits, rounded up


def test_the_key_opens_and_its_text_is_not_kept() -> None:
    key = new_key(new_id())
    other = new_key(new_id())

    assert opens(key, kept(other), kept(key))
    assert key[-43:] not in str(vars(Key)) + repr(kept(key))
    assert kept(key).hash not in repr(kept(key))


@pytest.mark.parametrize(
    "text", ["", "?", "sk-pc-", "sk-pc-ID-SECRET", "密钥", "x" * 9999, "a\x00b"]
)
def test_a_text_that_is_no_key_opens_nothing(text: str) -> None:
    assert not opens(text, kept(new_key(new_id())))


def test_another_secret_of_the_same_id_does_not_open() -> None:
    id = new_id()

    assert not opens(new_key(id), kept(new_key(id)))


def test_the_old_secret_opens_until_its_time_is_over() -> None:
    old, new = (new_key("0" * 12) for _ in range(2))
    rotated = {"old_hash": hash_of(old)}

    assert opens(old, kept(new, **rotated, old_until_s=NOW_S + 1))
    assert not opens(old, kept(new, **rotated, old_until_s=NOW_S))
    assert opens(new, kept(new, **rotated, old_until_s=NOW_S))


def test_an_expired_key_does_not_open() -> None:
    key = new_key(new_id())

    assert opens(key, kept(key, expires_s=NOW_S + 1))
    assert not opens(key, kept(key, expires_s=NOW_S))
