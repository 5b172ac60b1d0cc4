"""Where the server keeps its files is nobody's business but its own."""

import re

from models.manifest import Manifest

# the root, a home folder, a drive or a share; not the slash of "and/or", nor an address on the web
START = r"(?:file://)?(?:~?/(?!/)|[A-Za-z]:[\\/]|\\\\)"
# only between quotes may a path have blanks: elsewhere they end it
QUOTED = re.compile(rf"(?P<quote>['\"]){START}(?P<rest>[^'\"\n]*)(?P=quote)")
BARE = re.compile(rf"(?<![\w./\\~]){START}(?P<rest>[^\s'\":;,|<>()]*)")


def without_folders(text: str) -> str:
    """The text with the last part alone of every absolute path in it. Takes time in proportion to
    the text: what is in a manifest or an error may be hostile."""
    text = QUOTED.sub(lambda path: path["quote"] + _last(path) + path["quote"], text)
    return BARE.sub(_last, text)


def _last(path: re.Match[str]) -> str:
    return re.split(r"[\\/]", path["rest"])[-1]


def manifest_without_folders(manifest: Manifest) -> Manifest:
    """The command of its training names folders of the machine where it was trained."""
    record = manifest.training
    if record is None:
        return manifest
    update: dict[str, str] = {"command": without_folders(record.command)}
    if record.resumed_by is not None:
        update["resumed_by"] = without_folders(record.resumed_by)
    return manifest.model_copy(update={"training": record.model_copy(update=update)})
