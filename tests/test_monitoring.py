"""The dashboard and the alert rules ask for nothing that the service does not tell."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import promql_parser
import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from service.app import create_app
from tests.service.clients import GOOD, client_for, settings_for
from tests.service.colours import save_colours

FOLDER = Path(__file__).parents[1] / "docs" / "monitoring"
SUFFIXES = {"histogram": ("_bucket", "_sum", "_count"), "counter": ("_total",), "gauge": ("",)}
ADDED = {"instance", "job"}  # by Prometheus to everything it scrapes
GPU = {"maskwright_device_memory_bytes": {"device", "kind"}}  # without series on a CPU


def dashboard() -> dict[str, Any]:
    found: dict[str, Any] = json.loads((FOLDER / "grafana-dashboard.json").read_text("utf-8"))
    return found


def rules() -> list[dict[str, Any]]:
    groups = yaml.safe_load((FOLDER / "alerts.yml").read_text("utf-8"))["groups"]
    return [rule for group in groups for rule in group["rules"]]


def expressions() -> list[str]:
    panels = [target["expr"] for p in dashboard()["panels"] for target in p.get("targets", [])]
    return panels + [rule["expr"] for rule in rules()]


def parse(expression: str) -> Any:
    for variable, instead in (("$__rate_interval", "5m"), ("$instance", ".*"), ("$model", ".*")):
        expression = expression.replace(variable, instead)
    return promql_parser.parse(expression)


def nodes(node: Any) -> Iterator[Any]:
    yield node
    for name in ("lhs", "rhs", "expr", "vector_selector", "param"):
        child = getattr(node, name, None)
        if child is not None:
            yield from nodes(child)
    for child in getattr(node, "args", None) or []:
        yield from nodes(child)


def selectors(expression: str) -> list[Any]:
    return [n for n in nodes(parse(expression)) if isinstance(n, promql_parser.VectorSelector)]


def grouped_by(expression: str) -> set[str]:
    """Labels of `by` and `on`."""
    found: set[str] = set()
    for node in nodes(parse(expression)):
        modifier = getattr(node, "modifier", None)
        matching = getattr(modifier, "matching", None) or modifier
        found |= set(getattr(matching, "labels", None) or [])
    return found


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> dict[str, set[str]]:
    """Every metric of an app that has answered and refused, with its labels."""
    folder = tmp_path_factory.mktemp("monitored")
    save_colours(folder / "colours.pth")
    with client_for(create_app(settings_for(folder))) as client:
        client.post("/segment", content=GOOD)
        client.post("/segment", content=b"no image")
        text = client.get("/metrics").text
    found = dict(GPU)
    for family in text_string_to_metric_families(text):
        for suffix in SUFFIXES[family.type]:
            name = family.name + suffix
            labels = [set(sample.labels) for sample in family.samples if sample.name == name]
            found.setdefault(name, set().union(*labels))
    return {**found, "up": set()}


@pytest.mark.parametrize("expression", expressions())
def test_every_metric_and_label_exists(told: dict[str, set[str]], expression: str) -> None:
    found = selectors(expression)
    assert found
    labels: set[str] = set(ADDED)
    for selector in found:
        assert selector.name in told
        known = told[selector.name] | ADDED
        assert {matcher.name for matcher in selector.matchers.matchers} <= known
        labels |= known
    assert grouped_by(expression) <= labels


def test_the_test_sees_every_metric_of_an_expression() -> None:
    expression = "1 - sum by (x) (rate(a_total[5m])) / on (y) (max_over_time(b[1h:1m]) > c)"
    assert {selector.name for selector in selectors(expression)} == {"a_total", "b", "c"}
    assert grouped_by(expression) == {"x", "y"}


def test_what_the_dashboard_shows_is_all_of_its_parts() -> None:
    """Ids and places are each taken once, and no variable is used that is not there."""
    found = dashboard()
    ids = [panel["id"] for panel in found["panels"]]
    assert len(set(ids)) == len(ids)
    places = [tuple(panel["gridPos"].values()) for panel in found["panels"]]
    assert len(set(places)) == len(places)
    variables = {entry["name"] for entry in found["templating"]["list"]}
    assert variables == {"datasource", "instance", "model"}


@pytest.mark.parametrize("rule", rules(), ids=lambda rule: rule["alert"])
def test_an_alert_says_how_bad_it_is_and_what_to_do(rule: dict[str, Any]) -> None:
    assert rule["labels"]["severity"] in ("warning", "critical")
    assert rule["annotations"]["summary"]
    assert rule["annotations"]["description"]


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.yml")), ids=lambda path: path.name)
def test_the_other_files_are_yaml_and_name_files_that_exist(path: Path) -> None:
    found = yaml.safe_load(path.read_text("utf-8"))
    for service in found.get("services", {}).values():
        for volume in service["volumes"]:
            if volume.startswith("./"):
                assert (FOLDER.parents[1] / volume.partition(":")[0]).is_file()
