"""Keys of a file and of the environment, and errors that show none."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from deployments.keys.plain import VARIABLE, from_environment, from_file
from deployments.keys.records import SCOPES, KeyLimits
from deployments.keys.secrets import hash_of, id_of
from tests.api.doors.house import some_key

(_, ONE), (_, OTHER) = some_key("tom"), some_key("ann")


def file_of(folder: Path, *lines: str, mode: int = 0o600) -> Path:
    path = folder / "keys"
    path.write_text("\n".join(lines), encoding="utf-8")
    path.chmod(mode)
    return path


def test_the_variable_has_keys_between_commas() -> None:
    keys = from_environment({VARIABLE: f" {ONE}, {OTHER},"})

    assert [key.hash for key in keys] == [hash_of(ONE), hash_of(OTHER)]
    assert [key.scopes for key in keys] == [SCOPES, SCOPES]
    assert from_environment({}) == []


def test_a_line_of_the_file_says_what_its_key_may_do(tmp_path: Path) -> None:
    line = f"{ONE}  name=tom scopes=jobs,transcribe max_concurrent=4 audio_s_per_day=0.5"

    tom, plain = from_file(file_of(tmp_path, "# ours", line, "", OTHER))

    assert (tom.id, tom.name, tom.scopes) == (id_of(ONE), "tom", ("transcribe", "jobs"))
    assert tom.limits == KeyLimits(max_concurrent=4, audio_s_per_day=0.5)
    assert (plain.name, plain.scopes, plain.limits) == (id_of(OTHER), SCOPES, KeyLimits())


@pytest.mark.parametrize("mode", [0o644, 0o604, 0o620, 0o666])
def test_a_file_that_others_may_read_or_change_is_refused(tmp_path: Path, mode: int) -> None:
    with pytest.raises(ValueError, match="chmod 600"):
        from_file(file_of(tmp_path, ONE, mode=mode))


@pytest.mark.parametrize("mode", [0o600, 0o400, 0o440])
def test_a_file_for_its_owner_or_group_is_read(tmp_path: Path, mode: int) -> None:
    assert len(from_file(file_of(tmp_path, ONE, mode=mode))) == 1


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("my-own-password", "is not a key of the form"),
        (ONE[:-1], "is not a key of the form"),
        (f"{ONE} name", "NAME=VALUE"),
        (f"{ONE} name=a name=b", "NAME=VALUE"),
        (f"{ONE} scopes=admin", "scopes of transcribe, jobs, operate; given is 'admin'"),
        (f"{ONE} max_requests=1", "There is no limit 'max_requests'"),
        (f"{ONE} max_concurrent=0", "above 0"),
        (f"{ONE} max_concurrent=many", "many"),
        (f"{ONE} audio_s_per_day=nan", "above 0"),
    ],
    ids=lambda text: text.replace(ONE, "KEY").replace(ONE[:-1], "SHORT"),
)
def test_a_line_that_cannot_be_read_is_named_and_not_shown(
    tmp_path: Path, line: str, says: str
) -> None:
    with pytest.raises(ValueError, match=re.escape(says)) as caught:
        from_file(file_of(tmp_path, "# first", line))

    assert "keys, line 2" in str(caught.value)
    assert line.split()[0] not in str(caught.value)


def test_one_id_for_two_keys_is_refused() -> None:
    with pytest.raises(ValueError, match="same id"):
        from_environment({VARIABLE: f"{ONE},{ONE}"})
