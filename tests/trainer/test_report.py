"""`report.html`: one file with everything, and nothing outside it."""

import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import pytest

from models import load_checkpoint
from tests.trainer.command_line import refusal, succeed
from tests.trainer.runs import fit, manifest
from trainer.training.history import read_history

SECTIONS = ("curves", "classes", "confusion", "samples", "worst", "data", "configuration")


@pytest.fixture(scope="module")
def run(run_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three epochs, the second one best or not, with report.html."""
    out = tmp_path_factory.mktemp("reported") / "a <b> run"
    fit(run_data, out, "--epochs", "3", "--lr", "3e-3", "--report")
    return out


class Page(HTMLParser):
    """The links, ids, pictures and text of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.sources: list[str] = []
        self.ids: set[str] = set()
        self.words: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name in ("src", "href") and value:
                self.sources.append(value)
            if name == "id" and value:
                self.ids.add(value)

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


@pytest.fixture(scope="module")
def page(run: Path) -> Page:
    return Page((run / "report.html").read_text(encoding="utf-8"))


def test_nothing_outside_the_file_is_referred_to(run: Path, page: Page) -> None:
    outside = [s for s in page.sources if not s.startswith(("data:image/", "#"))]
    assert outside == []
    assert not re.search(r"url\(|@import|<script", (run / "report.html").read_text())


def test_every_section_is_there_and_linked(page: Page) -> None:
    assert page.ids >= set(SECTIONS)
    assert {f"#{name}" for name in SECTIONS} <= set(page.sources)


def test_the_figures_are_those_of_the_best_checkpoint(run: Path, page: Page) -> None:
    metrics = manifest(run / "checkpoints/best.pth")["metrics"]
    assert f"{metrics['mean_iou']:.4f}" in page.text
    assert f"{metrics['pixel_accuracy']:.4f}" in page.text
    assert load_checkpoint(run / "checkpoints/best.pth").manifest.training is not None


def test_command_configuration_and_environment_are_shown(run: Path, page: Page) -> None:
    for words in ("--epochs 3", "base_channels 4", "Recipe report", "torch", "processor"):
        assert words in page.text, words
    assert manifest(run / "checkpoints/best.pth")["weights"]["sha256"] in page.text


def test_names_are_text_and_not_markup(run: Path, page: Page) -> None:
    assert "a <b> run" in page.text
    assert "<b> run" not in (run / "report.html").read_text()


def test_every_epoch_is_in_the_table(run: Path, page: Page) -> None:
    for record in read_history(run):
        assert f"{record.train_loss:.6g}" in page.text


def test_it_can_be_written_again_from_the_folder_alone(run: Path, page: Page) -> None:
    (run / "report.html").unlink()
    outcome = succeed("report", "--run", run, "--worst", "1")
    assert "report.html" in outcome.log
    again = Page((run / "report.html").read_text(encoding="utf-8"))
    assert len(again.sources) < len(page.sources)  # one of the worst instead of two


def test_a_run_that_ended_before_its_report_gets_it_when_resumed(run: Path, run_data: Path) -> None:
    (run / "report.html").unlink()
    fit(run_data, run, "--epochs", "3", "--lr", "3e-3", "--resume", "--report")
    assert (run / "report.html").exists()


def test_another_folder_is_refused_by_name(tmp_path: Path) -> None:
    line = refusal("report", "--run", tmp_path)
    assert f"--run {tmp_path}" in line


def test_a_damaged_configuration_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"data": 3}')
    assert "config.json" in refusal("report", "--run", tmp_path)


def test_a_moved_dataset_is_named_and_can_be_given(
    run: Path, run_data: Path, tmp_path: Path
) -> None:
    moved = tmp_path / "run"
    shutil.copytree(run, moved)
    config = moved / "config.json"
    config.write_text(config.read_text().replace(str(run_data), str(tmp_path / "gone")))
    assert "gone" in refusal("report", "--run", moved)
    succeed("report", "--run", moved, "--data", run_data)


def test_a_resumed_run_shows_both_commands_what_was_settled_and_all_epochs(
    run_data: Path, tmp_path: Path
) -> None:
    """The old page was left behind by a kill between the last state and the new one."""
    out = tmp_path / "run"
    options = ("--lr", "3e-3", "--device", "auto", "--precision", "auto")
    fit(run_data, out, "--epochs", "1", *options, "--report")
    old = (out / "report.html").read_text()
    assert "1 epoch, the best was 1" in old
    fit(run_data, out, "--epochs", "2", *options, "--resume")
    assert (out / "report.html").read_text() == old
    fit(run_data, out, "--epochs", "2", *options, "--resume", "--report")
    page = Page((out / "report.html").read_text(encoding="utf-8"))
    for words in ("--epochs 1", "--epochs 2", "2 epochs", "1 process;", "device cpu", "workers 0"):
        assert words in page.text, words
    assert re.search(r"(?<!-)precision (b?float\d+)", page.text)
    assert "resume True" not in page.text
