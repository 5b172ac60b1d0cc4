"""`python -m service keys`: what is written, what is shown, what is refused."""

import stat
from pathlib import Path

import pytest

from service.security.command import run_keys
from service.security.keyring import KeyRing
from service.security.keys import parse_keys


@pytest.fixture
def file(tmp_path: Path) -> str:
    return str(tmp_path / "keys.txt")


def made(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The secret that `keys new` shows."""
    assert run_keys(["new", *arguments]) == 0
    secret = capsys.readouterr().out
    assert secret.count("\n") == 1
    return secret.strip()


def test_a_new_key_opens_with_its_scopes(file: str, capsys: pytest.CaptureFixture[str]) -> None:
    user = made(capsys, "--name", "robot", "--file", file)
    admin = made(capsys, "--name", "boss", "--scope", "admin", "--file", file)
    ring = KeyRing(None, Path(file))
    found = [ring.find(secret) for secret in (user, admin)]
    assert [(key.name, set(key.scopes)) for key in found if key] == [
        ("robot", {"segment"}),
        ("boss", {"admin"}),
    ]
    assert user not in Path(file).read_text()


def test_without_a_file_the_line_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_keys(["new", "--name", "robot"]) == 0
    written = capsys.readouterr()
    (key,) = parse_keys(written.err.splitlines()[-1], source="shown")
    assert KeyRing(key.line(), None).find(written.out.strip()) == key


def test_the_file_may_be_named_by_the_environment(
    file: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SERVICE_API_KEY_FILE", file)
    made(capsys, "--name", "robot")
    assert run_keys(["list"]) == 0
    assert capsys.readouterr().out.startswith("robot\tsegment\t")


def test_a_revoked_key_is_gone_and_the_rest_stays(
    file: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Path(file).write_text("# of the lab\n")
    gone = made(capsys, "--name", "robot", "--file", file)
    kept = made(capsys, "--name", "robot2", "--file", file)
    ring = KeyRing(None, Path(file))
    assert run_keys(["revoke", "--name", "robot", "--file", file]) == 0
    assert ring.find(gone) is None
    assert ring.find(kept) is not None
    assert Path(file).read_text().startswith("# of the lab\nrobot2:segment:")


def test_the_last_key_is_revoked_at_once_too(file: str, capsys: pytest.CaptureFixture[str]) -> None:
    secret = made(capsys, "--name", "robot", "--file", file)
    ring = KeyRing(None, Path(file))
    assert run_keys(["revoke", "--name", "robot", "--file", file]) == 0
    assert ring.find(secret) is None
    made(capsys, "--name", "robot", "--file", file)


def test_a_broken_line_keeps_no_key_valid(file: str, capsys: pytest.CaptureFixture[str]) -> None:
    gone = made(capsys, "--name", "robot", "--file", file)
    kept = made(capsys, "--name", "other", "--file", file)
    ring = KeyRing(None, Path(file))
    with Path(file).open("a") as stream:
        stream.write("nonsense\n")
    assert run_keys(["revoke", "--name", "robot", "--file", file]) == 0
    assert ring.find(gone) is None
    assert ring.find(kept) is not None


def test_who_may_read_the_file_stays_as_it_was(
    file: str, capsys: pytest.CaptureFixture[str]
) -> None:
    made(capsys, "--name", "robot", "--file", file)
    Path(file).chmod(0o600)
    made(capsys, "--name", "other", "--file", file)
    assert run_keys(["revoke", "--name", "robot", "--file", file]) == 0
    assert stat.S_IMODE(Path(file).stat().st_mode) == 0o600


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["new", "--name", "two words"], "--name"),
        (["new", "--name", "robot"], "robot"),
        (["revoke", "--name", "nobody"], "nobody"),
    ],
)
def test_a_refusal_is_one_line_and_changes_nothing(
    file: str, capsys: pytest.CaptureFixture[str], arguments: list[str], named: str
) -> None:
    made(capsys, "--name", "robot", "--file", file)
    before = Path(file).read_text()
    assert run_keys([*arguments, "--file", file]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert named in line
    assert Path(file).read_text() == before


def test_a_file_that_cannot_be_written_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    missing = str(tmp_path / "none" / "keys.txt")
    assert run_keys(["new", "--name", "robot", "--file", missing]) == 2
    assert missing in capsys.readouterr().err


def test_list_and_revoke_ask_for_a_file(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_keys(["list"]) == 2
    assert "--file" in capsys.readouterr().err
