"""A run's tables and charts in a page of the documentation.

Each scenario has a place of its own, between two comments, so that a part can be measured again
without the others; what people have written around the places stays.
"""

import re
from pathlib import Path

from benchmarks.serving.table import Table
from models.atomic import write_bytes

DPI = 120


def write_docs(base: Path, tables: dict[str, list[Table]], facts: dict[str, str]) -> list[Path]:
    """Writes `base`.md and `base`-SCENARIO-N.png; returns what was written."""
    page = base.with_suffix(".md")
    text = page.read_text(encoding="utf-8") if page.exists() else "# Serving speed\n"
    page.parent.mkdir(parents=True, exist_ok=True)
    written = [page]
    for scenario, found in tables.items():
        pictures = _draw(base, scenario, found)
        written += pictures
        text = put_section(text, scenario, _section(found, pictures, facts))
    write_bytes(page, text.encode())
    return written


def put_section(text: str, name: str, content: str) -> str:
    """`text` with `content` between the comments of `name`; where they are absent, at its end."""
    begin, end = f"<!-- {name} -->", f"<!-- end of {name} -->"
    section = f"{begin}\n{content.strip()}\n{end}"
    place = re.compile(f"{re.escape(begin)}.*?{re.escape(end)}", re.DOTALL)
    if place.search(text):
        return place.sub(lambda _: section, text)
    return f"{text.rstrip()}\n\n{section}\n"


def _draw(base: Path, scenario: str, tables: list[Table]) -> list[Path]:
    pictures: list[Path] = []
    for table in tables:
        if table.chart is not None and table.records:
            path = base.with_name(f"{base.name}-{scenario}-{len(pictures) + 1}.png")
            table.chart().savefig(path, dpi=DPI)
            pictures.append(path)
    return pictures


def _section(tables: list[Table], pictures: list[Path], facts: dict[str, str]) -> str:
    where = f"Measured on {facts['processor']}, {facts['cores']} cores ({facts['features']})"
    others = {k: v for k, v in facts.items() if k not in ("processor", "cores", "features")}
    versions = ", ".join(f"{name} {value}" for name, value in others.items())
    parts = [f"{where}; {versions}."]
    parts += [table.to_markdown() for table in tables]
    parts += [f"![{path.stem}]({path.name})" for path in pictures]
    return "\n\n".join(parts)
