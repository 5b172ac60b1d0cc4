"""Metrics while models come and go."""

from pathlib import Path

from service.app import create_app
from tests.service.clients import ADMIN_KEYS, AS_ADMIN, GOOD, Client, client_for, settings_for
from tests.service.colours import save_colours
from tests.service.scrape import scraped, value

FOR_EVER = {"maskwright_requests_total", "maskwright_images_total"}


def models_told(client: Client) -> set[str]:
    labels = {label for name, labels in scraped(client) if name not in FOR_EVER for label in labels}
    return {label for key, label in labels if key == "model" and label}


def test_series_come_with_a_model_and_go_with_it(folder: Path) -> None:
    save_colours(folder / "second.pth")
    with client_for(
        create_app(settings_for(folder, api_keys=ADMIN_KEYS)), headers=AS_ADMIN
    ) as client:
        assert models_told(client) == {"colours"}
        assert client.post("/models/second/load").status_code < 300
        assert client.post("/segment?model=second", content=GOOD).status_code == 200
        assert models_told(client) == {"colours", "second"}
        assert client.post("/models/second/unload").status_code < 300
        assert models_told(client) == {"colours"}
        assert value(scraped(client), "images_total", model="second") == 1


def test_a_file_that_was_overwritten_goes_on_with_its_counters(folder: Path) -> None:
    with client_for(
        create_app(settings_for(folder, api_keys=ADMIN_KEYS)), headers=AS_ADMIN
    ) as client:
        client.post("/segment", content=GOOD)
        save_colours(folder / "colours.pth", shift=1)
        assert client.post("/models/colours/load").status_code < 300
        client.post("/segment", content=GOOD)
        assert value(scraped(client), "images_total", model="colours") == 2
