"""`python -m service keys new|list|revoke`: makes keys and keeps the file of their hashes."""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from models.atomic import replace_bytes
from service.errors import KeysError
from service.security.keyring import read_text
from service.security.keys import SCOPES, ApiKey, new_key, parse_keys

VARIABLE = "SERVICE_API_KEY_FILE"


def run_keys(arguments: Sequence[str]) -> int:
    """Exit status: 0, or 2 with one line on the standard error."""
    options = _parser().parse_args(arguments)
    try:
        {"new": _new, "list": _list, "revoke": _revoke}[options.action](options)
    except KeysError as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    except OSError as error:
        sys.stderr.write(f"error: --file {options.file}: {error.strerror or error}\n")
        return 2
    return 0


def _new(options: argparse.Namespace) -> None:
    """The secret alone goes to the standard output, so that KEY=$(… keys new …) has it."""
    secret, key = new_key(options.name, frozenset(options.scope or ["segment"]))
    if options.file is None:
        sys.stderr.write(f"for the file of --api-key-file, or for --api-keys:\n{key.line()}\n")
    else:
        text = _text(options.file) if options.file.exists() else ""
        if any(each.name == key.name for each in _keys(text, options.file)):
            raise KeysError(f"--name {key.name}: {options.file} has a key of this name")
        newline = "" if not text or text.endswith("\n") else "\n"
        _write(options.file, f"{text}{newline}{key.line()}\n")
        sys.stderr.write(f"{key.name} is in {options.file}; its key, shown this once:\n")
    sys.stdout.write(f"{secret}\n")


def _list(options: argparse.Namespace) -> None:
    file = _required(options)
    for key in _keys(_text(file), file):
        name, scopes, digest = key.line().split(":")
        sys.stdout.write(f"{name}\t{scopes}\t{digest[:12]}…\n")


def _revoke(options: argparse.Namespace) -> None:
    file = _required(options)
    lines, start = _text(file).splitlines(), f"{options.name}:"
    left = [line for line in lines if not line.strip().startswith(start)]
    if left == lines:  # nothing else counts: a line that is broken must not keep a key valid
        raise KeysError(f"--name {options.name}: {file} has no key of this name")
    left = left or ["# no keys"]  # an empty file would be waited for, as one that is being saved
    _write(file, "".join(f"{line}\n" for line in left))


def _required(options: argparse.Namespace) -> Path:
    if options.file is None:
        raise KeysError(f"--file: which file of keys? (or {VARIABLE})")
    file: Path = options.file
    return file


def _text(file: Path) -> str:
    return read_text(file, source=f"--file {file}")


def _keys(text: str, file: Path) -> list[ApiKey]:
    return parse_keys(text, source=f"--file {file}")


def _write(file: Path, text: str) -> None:
    """At once and whole: a service that reads it meanwhile finds the old keys or the new."""
    replace_bytes(file.resolve(), text.encode())


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m service keys", description=__doc__)
    actions = parser.add_subparsers(dest="action", required=True)
    new = actions.add_parser("new", help="make a key; it is shown once and kept nowhere")
    new.add_argument("--name", required=True, help="whose it is; the log says it")
    new.add_argument(
        "--scope", action="append", choices=SCOPES, help="may be repeated; segment when absent"
    )
    listing = actions.add_parser("list", help="names, scopes and the beginning of the hashes")
    revoke = actions.add_parser("revoke", help="the running service refuses the key at once")
    revoke.add_argument("--name", required=True)
    default = Path(os.environ[VARIABLE]) if os.environ.get(VARIABLE) else None
    for action in (new, listing, revoke):
        action.add_argument("--file", type=Path, default=default, help=f"or {VARIABLE}")
    return parser
