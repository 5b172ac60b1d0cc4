"""What a scrape says, read as Prometheus reads it."""

from prometheus_client.parser import text_string_to_metric_families

from tests.service.clients import Client

Series = dict[tuple[str, frozenset[tuple[str, str]]], float]


def parsed(text: str) -> Series:
    """Every sample by its name and labels; a series that is there twice would be refused."""
    found: Series = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            key = sample.name, frozenset(sample.labels.items())
            assert key not in found, key
            found[key] = sample.value
    return found


def value(series: Series, name: str, **labels: str) -> float | None:
    return series.get((f"maskwright_{name}", frozenset(labels.items())))


def scraped(client: Client) -> Series:
    response = client.get("/metrics")
    assert response.status_code == 200
    return parsed(response.text)
