"""Options that take a path."""

from pathlib import Path
from typing import Any

import typer


def path_option(explanation: str = "") -> Any:
    """Refuses an empty text, mostly a shell's unset variable, which would mean the current
    folder."""
    return typer.Option(help=explanation, parser=_some_path)


def _some_path(text: str) -> Path:
    if not text:
        raise typer.BadParameter("must not be empty")
    return Path(text)
