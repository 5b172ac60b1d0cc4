"""The page at "/" as a person uses it, in headless Chromium."""

import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from service.security.keys import new_key
from tests.service.colours import encoded, picture_of
from tests.service.server import Server, launch

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium on the PATH")

FLAGS = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield launched
        launched.close()


@pytest.fixture
def page(browser: Browser, server: Server) -> Iterator[tuple[Page, list[str]]]:
    """The opened page, and every complaint the browser has had about it."""
    opened = browser.new_page()
    complaints: list[str] = []
    opened.on("console", lambda message: complaints.append(message.text))
    opened.on("pageerror", lambda error: complaints.append(str(error)))
    opened.goto(server.url)
    yield opened, complaints
    opened.close()


def test_an_image_comes_back_as_an_overlay_and_a_table(
    page: tuple[Page, list[str]], tmp_path: Path
) -> None:
    opened, complaints = page
    photo = tmp_path / "photo.png"
    photo.write_bytes(encoded(picture_of(90, 60)))
    opened.set_input_files("#file", photo)
    opened.wait_for_selector("body[data-state=done]")
    rows = opened.locator("#rows tr")
    assert rows.count() >= 2
    assert opened.locator("#overlay").is_visible()
    rows.first.hover()
    lit = opened.locator("#overlay").get_attribute("data-lit")
    assert lit == rows.first.get_attribute("data-id")
    assert complaints == []


def test_what_is_not_an_image_is_answered_in_plain_words(
    page: tuple[Page, list[str]], tmp_path: Path
) -> None:
    opened, _ = page
    broken = tmp_path / "notes.jpg"
    broken.write_bytes(b"these are notes")
    opened.set_input_files("#file", broken)
    opened.wait_for_selector("body[data-state=error]")
    assert "not an image" in opened.locator("#error-text").inner_text()
    good = tmp_path / "photo.png"
    good.write_bytes(encoded(picture_of(40, 40)))
    opened.set_input_files("#file", good)
    opened.wait_for_selector("body[data-state=done]")
    assert opened.locator("#error").is_hidden()


SECRET, KEY = new_key("robot", frozenset({"segment"}))


@pytest.fixture(scope="module")
def guarded(served_folder: Path) -> Iterator[Server]:
    """A server that asks for a key."""
    started = launch(
        SERVICE_CHECKPOINTS=str(served_folder),
        SERVICE_PORT="0",
        SERVICE_DEVICE="cpu",
        SERVICE_ENGINE="torch",
        SERVICE_API_KEYS=KEY.line(),
    )
    try:
        started.wait_until_listening()
        yield started
    finally:
        started.stop(signal.SIGTERM)


def test_a_key_is_asked_for_and_kept_for_the_tab(
    browser: Browser, guarded: Server, tmp_path: Path
) -> None:
    opened = browser.new_page()
    opened.goto(guarded.url)
    opened.wait_for_selector("#key-form")
    assert opened.locator("#open-link").is_hidden()
    opened.fill("#key", "wrong")
    opened.press("#key", "Enter")
    opened.wait_for_selector("text=does not know this API key")
    opened.fill("#key", f" {SECRET} ")
    opened.press("#key", "Enter")
    opened.wait_for_selector("text=Model “colours”")
    assert opened.locator("#key-form").is_hidden()
    opened.reload()
    opened.wait_for_selector("text=Model “colours”")
    photo = tmp_path / "photo.png"
    photo.write_bytes(encoded(picture_of(90, 60)))
    opened.set_input_files("#file", photo)
    opened.wait_for_selector("body[data-state=done]")
    assert "$KEY" in opened.locator("#curl").inner_text()
    assert SECRET not in opened.content()
    opened.close()
