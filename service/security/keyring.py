"""The keys that are valid now: those of the environment, and those of a file that may change."""

import hmac
import logging
import time
from pathlib import Path

from models.regular import open_regular
from service.errors import KeysError
from service.security.keys import ApiKey, digest_of, parse_keys, parse_lines

logger = logging.getLogger(__name__)

MAX_FILE_BYTES = 1 << 20
LOGGED_LINES = 10  # of those that are broken
NANOSECONDS = 1_000_000_000

Stamp = tuple[int, int, int, int]  # inode, size, times of modification and change


class KeyRing:
    """A file is read again when its stamp has changed. Then every line counts for itself: a key
    whose hash stands in none is revoked, whatever is wrong with the others; one whose own line was
    broken stays as it was. A file that cannot be read at all changes nothing, and neither does an
    empty one in its first second, which is what an editor makes of it before it writes. What is
    wrong is logged, and `in_order` tells it.

    KeysError at the start for entries that cannot be read, or where there is no key at all.
    """

    def __init__(self, given: str | None, file: Path | None) -> None:
        self._file = file
        self._source = f"--api-key-file {file}"
        self._given = parse_keys("\n".join((given or "").split()), source="--api-keys")
        self._stamp = _stamp(file) if file else None
        self._keys = list(self._given)
        if file:
            text = read_text(file, source=self._source)
            self._keys += parse_keys(text, source=self._source, beside=self._given)
        self.in_order = True
        if file and not self._keys:
            raise KeysError(
                f"--api-key-file {file}: holds no key; add one with `python -m service keys new "
                f"--name NAME --file {file}`"
            )
        # settled once: to revoke the last key must not open the service
        self.guards = bool(self._keys)

    def find(self, secret: str) -> ApiKey | None:
        """The key that is sent as `secret`. Every key is compared, each in constant time."""
        if self._file is not None:
            self._refresh(self._file)
        digest = digest_of(secret)
        found = None
        for key in self._keys:
            if hmac.compare_digest(key.digest, digest):
                found = key
        return found

    def _refresh(self, file: Path) -> None:
        stamp = _stamp(file)
        if stamp == self._stamp:
            return
        try:
            text = read_text(file, source=self._source)
        except KeysError as error:
            self._stamp, self.in_order = stamp, False
            logger.error("%s; the %d keys read before stay valid", error, len(self._keys))
            return
        if not text.strip() and _is_fresh(stamp):
            return  # and looked at again
        self._stamp = stamp  # taken before the file was read: a change meanwhile shows next time
        self._take(text)

    def _take(self, text: str) -> None:
        keys, broken = parse_lines(text, source=self._source, beside=self._given)
        known = {key.digest for key in (*self._given, *keys)}
        stay = [
            key
            for key in self._keys
            if key.digest not in known and any(key.digest.hex() in line.text for line in broken)
        ]
        self._keys = [*self._given, *keys, *stay]
        self.in_order = not broken
        for line in broken[:LOGGED_LINES]:
            logger.error("%s; the other lines count", line.error)
        names = ", ".join(key.name for key in self._keys) or "none"
        logger.info("API keys read again: %s", names)


def read_text(file: Path, *, source: str) -> str:
    """A file of keys; a KeysError names `source` and what is wrong."""
    try:
        with open_regular(file) as stream:
            content = stream.read(MAX_FILE_BYTES + 1)
        if len(content) > MAX_FILE_BYTES:
            raise KeysError(f"{source}: larger than {MAX_FILE_BYTES} bytes")
        return content.decode("utf-8-sig")  # some editors begin a file with a mark
    except OSError as error:
        raise KeysError(f"{source}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise KeysError(f"{source}: is not text in UTF-8") from error


def _is_fresh(stamp: Stamp | None) -> bool:
    """Changed within the last second. A time to come, of a clock that goes wrong, is not."""
    return stamp is not None and 0 <= time.time_ns() - stamp[2] < NANOSECONDS


def _stamp(file: Path) -> Stamp | None:
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns
