"""The keys that are valid now, while their file changes."""

import logging
from pathlib import Path

import pytest

from service.errors import KeysError
from service.security.keyring import MAX_FILE_BYTES, KeyRing
from service.security.keys import new_key

SECRET, KEY = new_key("robot", frozenset({"segment"}))
OTHER_SECRET, OTHER = new_key("other", frozenset({"admin"}))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "keys.txt"
    path.write_text(f"{KEY.line()}\n")
    return path


def test_without_keys_nothing_is_guarded() -> None:
    for given in (None, "", "  \n"):
        assert not KeyRing(given, None).guards


def test_a_key_is_found_by_its_secret_alone(file: Path) -> None:
    ring = KeyRing(f"\n {OTHER.line()} ", file)
    assert ring.guards
    assert ring.find(SECRET) == KEY
    assert ring.find(OTHER_SECRET) == OTHER
    for wrong in ("", SECRET[:-1], f"{SECRET} ", SECRET.lower(), KEY.digest.hex(), "\udcff", "é"):
        assert ring.find(wrong) is None


def test_several_in_the_environment_are_parted_by_blanks() -> None:
    ring = KeyRing(f"{KEY.line()} {OTHER.line()}", None)
    assert (ring.find(SECRET), ring.find(OTHER_SECRET)) == (KEY, OTHER)


def test_a_key_added_or_removed_counts_from_the_next_request_on(file: Path) -> None:
    ring = KeyRing(None, file)
    assert ring.find(OTHER_SECRET) is None
    file.write_text(f"{KEY.line()}\n{OTHER.line()}\n")
    assert ring.find(OTHER_SECRET) == OTHER
    file.write_text(f"{OTHER.line()}\n")
    assert ring.find(SECRET) is None


def test_to_revoke_the_last_key_does_not_open_the_service(file: Path) -> None:
    ring = KeyRing(None, file)
    file.write_text("# nobody\n")
    assert ring.find(SECRET) is None
    assert ring.guards


@pytest.mark.parametrize("damage", ["nonsense", "missing", "folder", "binary", "large", "twice"])
def test_a_file_that_breaks_leaves_the_keys_as_they_were(
    file: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    ring = KeyRing(OTHER.line(), file)
    file.unlink()
    if damage == "folder":
        file.mkdir()
    elif damage != "missing":
        contents = {
            "nonsense": b"robot:segment:",
            "binary": b"\xff\xfe\x00",
            "large": b"#" * (MAX_FILE_BYTES + 1),
            "twice": OTHER.line().encode(),
        }
        file.write_bytes(contents[damage])
    with caplog.at_level(logging.ERROR):
        assert ring.find(SECRET) == KEY
        assert ring.find(SECRET) == KEY
    assert len(caplog.records) == 1  # once for each change, not for each request
    assert "stay valid" in caplog.text


def test_a_repaired_file_counts_again(file: Path) -> None:
    ring = KeyRing(None, file)
    file.write_text("nonsense")
    assert ring.find(SECRET) == KEY
    file.write_text(OTHER.line())
    assert (ring.find(SECRET), ring.find(OTHER_SECRET)) == (None, OTHER)


@pytest.mark.parametrize("content", ["", "# none\n", "nonsense"])
def test_at_the_start_a_file_without_keys_is_refused(file: Path, content: str) -> None:
    file.write_text(content)
    with pytest.raises(KeysError, match="--api-key-file"):
        KeyRing(None, file)


def test_at_the_start_a_missing_file_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(KeysError, match=r"--api-key-file .*none\.txt: No such file"):
        KeyRing(None, tmp_path / "none.txt")
