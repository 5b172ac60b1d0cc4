"""A run's tables find their place in the page, and leave the rest of it alone."""

from pathlib import Path

import pytest

from benchmarks.serving.charts import draw_bars
from benchmarks.serving.docs import put_section, write_docs
from benchmarks.serving.table import Table, number

FACTS = {"processor": "A processor", "cores": "2", "features": "avx2", "torch": "2.14.1"}


def test_a_section_replaces_only_its_own() -> None:
    text = "# Page\n\nwritten by hand\n"
    for name, content in (("a", "one"), ("b", "two"), ("a", r"three \1")):
        text = put_section(text, name, content)
    assert text.startswith("# Page\n\nwritten by hand\n")
    assert "one" not in text
    assert text.index("<!-- a -->\nthree \\1\n<!-- end of a -->") < text.index("two")


def test_tables_and_charts_are_written_and_named(tmp_path: Path) -> None:
    table = Table("Speed", ("server", "requests/s"), notes=["A note."])
    table.add("ours", "12.0", per_second=12.0)
    table.chart = lambda: draw_bars("Speed", ["ours", "theirs"], [12.0, 3.0], [True, False])
    written = write_docs(tmp_path / "speed", {"throughput": [table]}, FACTS)
    assert [path.name for path in written] == ["speed.md", "speed-throughput-1.png"]
    page = written[0].read_text()
    assert "A processor, 2 cores (avx2); torch 2.14.1." in page
    assert "| ours | 12.0 |" in page
    assert "![speed-throughput-1](speed-throughput-1.png)" in page
    assert written[1].read_bytes().startswith(b"\x89PNG")


def test_a_cell_cannot_break_the_table() -> None:
    table = Table("", ("server", "a", "b"))
    table.add("refused: a|b")
    assert "| refused: a\\|b |  |  |" in table.to_markdown()


@pytest.mark.parametrize(("value", "text"), [(None, "–"), (float("nan"), "–"), (1.25, "1.2")])  # noqa: RUF001
def test_what_is_not_known_is_a_dash(value: float | None, text: str) -> None:
    assert number(value) == text
