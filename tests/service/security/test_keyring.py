"""The keys that are valid now, while their file changes."""

import hmac
import logging
import os
import time
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


def test_every_key_is_compared_in_constant_time(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ring = KeyRing(OTHER.line(), file)
    compared: list[bytes] = []

    def compare(one: bytes, other: bytes) -> bool:
        compared.append(one)
        return one == other

    monkeypatch.setattr(hmac, "compare_digest", compare)
    for secret in (OTHER_SECRET, SECRET, "wrong"):
        ring.find(secret)
        assert sorted(compared) == sorted([KEY.digest, OTHER.digest])
        compared.clear()


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


def told(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.message for record in caplog.records if record.levelno >= logging.ERROR]


@pytest.mark.parametrize("damage", ["missing", "folder", "pipe", "binary", "large"])
def test_a_file_that_cannot_be_read_leaves_the_keys_as_they_were(
    file: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    ring = KeyRing(OTHER.line(), file)
    file.unlink()
    if damage == "folder":
        file.mkdir()
    elif damage == "pipe":
        os.mkfifo(file)
    elif damage != "missing":
        contents = {"binary": b"\xff\xfe\x00", "large": b"#" * (MAX_FILE_BYTES + 1)}
        file.write_bytes(contents[damage])
    assert ring.find(SECRET) == KEY
    assert ring.find(SECRET) == KEY
    (line,) = told(caplog)  # once for each change, not for each request
    assert "stay valid" in line
    assert not ring.in_order


class TestBrokenLines:
    def test_a_key_that_is_in_no_line_any_more_is_revoked_all_the_same(
        self, file: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        ring = KeyRing(None, file)
        file.write_text(f"nonsense\n# {KEY.line()}\n{OTHER.line()}\n")
        assert (ring.find(SECRET), ring.find(OTHER_SECRET)) == (None, OTHER)
        (line,) = told(caplog)
        assert "line 1" in line
        assert not ring.in_order

    @pytest.mark.parametrize("line", [f"robot:segmnet:{KEY.digest.hex()}", f"{KEY.line()}:x"])
    def test_a_key_whose_own_line_is_broken_stays_as_it_was(self, file: Path, line: str) -> None:
        ring = KeyRing(None, file)
        file.write_text(line)
        assert ring.find(SECRET) == KEY
        file.write_text(f"{line}\n{OTHER.line()}")
        assert (ring.find(SECRET), ring.find(OTHER_SECRET)) == (KEY, OTHER)
        file.write_text(OTHER.line())
        assert ring.find(SECRET) is None
        assert ring.in_order

    def test_nobody_gets_in_by_a_broken_line(self, file: Path) -> None:
        ring = KeyRing(None, file)
        file.write_text(f"{KEY.line()}\nother:admin,root:{OTHER.digest.hex()}")
        assert ring.find(OTHER_SECRET) is None

    def test_a_second_line_of_one_secret_gives_it_no_other_scopes(self, file: Path) -> None:
        ring = KeyRing(None, file)
        file.write_text(f"{KEY.line()}\ntwin:admin:{KEY.digest.hex()}\n")
        assert ring.find(SECRET) == KEY
        assert not ring.in_order

    def test_neither_does_one_in_the_file_of_what_the_environment_has(self, file: Path) -> None:
        ring = KeyRing(OTHER.line(), file)
        file.write_text(
            f"{KEY.line()}\nother:segment:{'0' * 64}\ntwin:segment:{OTHER.digest.hex()}"
        )
        assert ring.find(OTHER_SECRET) == OTHER
        assert ring.find(SECRET) == KEY
        assert not ring.in_order

    def test_there_is_an_end_to_what_is_logged(
        self, file: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        ring = KeyRing(None, file)
        file.write_text("nonsense\n" * 1000 + KEY.line())
        assert ring.find(SECRET) == KEY
        assert len(told(caplog)) == 10


class TestEmptied:
    def test_for_a_moment_it_is_what_an_editor_makes_of_it(self, file: Path) -> None:
        ring = KeyRing(None, file)
        file.write_text("")
        assert ring.find(SECRET) == KEY
        file.write_text(f"{KEY.line()}\n{OTHER.line()}\n")
        assert (ring.find(SECRET), ring.find(OTHER_SECRET)) == (KEY, OTHER)

    @pytest.mark.parametrize("seconds", [-2, 3600])
    def test_after_that_no_key_is_valid(self, file: Path, seconds: int) -> None:
        """Nor where the file's clock is ahead of ours."""
        ring = KeyRing(None, file)
        file.write_text("\n")
        assert ring.find(SECRET) == KEY
        when = time.time() + seconds
        os.utime(file, (when, when))
        assert ring.find(SECRET) is None
        assert ring.guards


def test_a_mark_at_the_beginning_is_no_part_of_a_name(file: Path) -> None:
    file.write_text(KEY.line(), encoding="utf-8-sig")
    assert KeyRing(None, file).find(SECRET) == KEY


def test_at_the_start_what_is_no_file_is_refused(file: Path) -> None:
    file.unlink()
    os.mkfifo(file)
    with pytest.raises(KeysError, match="is not a regular file"):
        KeyRing(None, file)


def test_at_the_start_a_secret_has_one_line(file: Path) -> None:
    file.write_text(f"twin:admin:{KEY.digest.hex()}\n{OTHER.line()}")
    with pytest.raises(
        KeysError, match=r"keys\.txt: line 1: the hash of 'twin' stands there twice"
    ):
        KeyRing(KEY.line(), file)


def test_a_repaired_file_counts_again(file: Path) -> None:
    ring = KeyRing(None, file)
    file.unlink()
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
