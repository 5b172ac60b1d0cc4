"""Where the server keeps its files is nobody's business but its own."""

import re
from typing import Any

from pydantic import BaseModel

from models.manifest import Manifest, Metrics

# the root, a home folder, a drive or a share; not the slash of "and/or", nor an address on the web
START = r"(?:file://)?(?:~?/(?!/)|[A-Za-z]:[\\/]|\\\\)"
# only between quotes may a path have blanks: elsewhere they end it
QUOTED = re.compile(rf"(?P<quote>['\"]){START}(?P<rest>[^'\"\n]*)(?P=quote)")
OPTION = re.compile(r"(?=\s--?[A-Za-z])")
UP_TO_OPTION = re.compile(rf"(?<![\w./\\~]){START}(?P<rest>.*)", re.DOTALL)
BARE = re.compile(rf"(?<![\w./\\~]){START}(?P<rest>[^\s'\":;,|<>()]*)")


def without_folders(text: str) -> str:
    """The text with the last part alone of every absolute path in it. Takes time in proportion to
    the text: what is in a manifest or an error may be hostile."""
    text = QUOTED.sub(lambda path: path["quote"] + _last(path) + path["quote"], text)
    return BARE.sub(_last, text)


def _last(path: re.Match[str]) -> str:
    return re.split(r"[\\/]", path["rest"])[-1]


def record_without_folders(text: str) -> str:
    """As `without_folders` for a command or a setting, where a path may have blanks without being
    quoted: it goes on to the next option. Prose beside it is lost with it."""
    text = QUOTED.sub(lambda path: path["quote"] + _last(path) + path["quote"], text)
    return "".join(UP_TO_OPTION.sub(_last, part) for part in OPTION.split(text))


def manifest_without_folders(manifest: Manifest) -> Manifest:
    """The command of its training names folders of the machine where it was trained, and any other
    field may. Names of classes are as they are."""
    redacted: Manifest = _without_folders(manifest)
    return redacted


def metrics_without_folders(metrics: Metrics) -> Metrics:
    """A dataset is named by its folder by those who have no other name for it."""
    redacted: Metrics = _without_folders(metrics)
    return redacted


def _without_folders(value: Any) -> Any:
    if isinstance(value, str):
        return record_without_folders(value)
    if isinstance(value, BaseModel):
        fields = {name: _without_folders(getattr(value, name)) for name in type(value).model_fields}
        return value.model_copy(update=fields)
    if isinstance(value, dict):  # whose keys are names of classes and libraries
        return {key: _without_folders(each) for key, each in value.items()}
    return value  # numbers, and tuples of them or of classes
