"""The keys that are valid now: those of the environment, and those of a file that may change."""

import hmac
import logging
from pathlib import Path

from service.errors import KeysError
from service.security.keys import ApiKey, digest_of, parse_keys, require_distinct

logger = logging.getLogger(__name__)

MAX_FILE_BYTES = 1 << 20

Stamp = tuple[int, int, int, int]  # inode, size, times of modification and change


class KeyRing:
    """A file is read again when its stamp has changed; one that is broken or gone changes nothing
    and is logged, so that a slip of the editor neither locks everybody out nor lets anybody in.

    KeysError at the start for entries that cannot be read, or where there is no key at all.
    """

    def __init__(self, given: str | None, file: Path | None) -> None:
        self._file = file
        self._given = parse_keys("\n".join((given or "").split()), source="--api-keys")
        self._stamp = _stamp(file) if file else None
        self._keys = self._read()
        if file and not self._keys:
            raise KeysError(
                f"--api-key-file {file}: holds no key; add one with `python -m service keys new "
                f"--name NAME --file {file}`"
            )
        # settled once: to revoke the last key must not open the service
        self.guards = bool(self._keys)

    def find(self, secret: str) -> ApiKey | None:
        """The key that is sent as `secret`. Every key is compared, each in constant time."""
        self._refresh()
        digest = digest_of(secret)
        found = None
        for key in self._keys:
            if hmac.compare_digest(key.digest, digest):
                found = key
        return found

    def _refresh(self) -> None:
        if self._file is None:
            return
        stamp = _stamp(self._file)
        if stamp == self._stamp:
            return
        self._stamp = stamp  # taken before the file is read: a change meanwhile shows next time
        try:
            self._keys = self._read()
        except KeysError as error:
            logger.error("%s; the %d keys read before stay valid", error, len(self._keys))
            return
        names = ", ".join(key.name for key in self._keys) or "none"
        logger.info("API keys read again: %s", names)

    def _read(self) -> list[ApiKey]:
        if self._file is None:
            return self._given
        source = f"--api-key-file {self._file}"
        keys = [*self._given, *parse_keys(read_text(self._file, source=source), source=source)]
        require_distinct(keys, source=f"{source} and --api-keys")
        return keys


def read_text(file: Path, *, source: str) -> str:
    """A file of keys; a KeysError names `source` and what is wrong."""
    try:
        with file.open("rb") as stream:
            content = stream.read(MAX_FILE_BYTES + 1)
        if len(content) > MAX_FILE_BYTES:
            raise KeysError(f"{source}: larger than {MAX_FILE_BYTES} bytes")
        return content.decode()
    except OSError as error:
        raise KeysError(f"{source}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise KeysError(f"{source}: is not text in UTF-8") from error


def _stamp(file: Path) -> Stamp | None:
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns
