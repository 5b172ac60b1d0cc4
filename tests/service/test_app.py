"""One app: warm before ready, documented offline, wound down cleanly, free of globals."""

import asyncio
import json
import re
import threading
import time
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

import httpx
import pytest
from torch import Tensor

from models import save_checkpoint
from service.app import create_app
from service.engines.torch_engine import TorchEngine
from service.errors import StartupError
from service.routes.operations import WEB
from tests.networks import manifest_for, small_network
from tests.service.clients import (
    GOOD,
    Client,
    assert_problem,
    assert_still_serves,
    async_client_for,
    client_for,
    finished,
    settings_for,
)
from tests.service.colours import save_colours


class References(HTMLParser):
    """The `src` and `href` of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found += [value for name, value in attrs if name in ("src", "href") and value]


class TestReadiness:
    def test_ready_between_warm_up_and_shutdown_only(self, folder: Path) -> None:
        app = create_app(settings_for(folder))

        async def statuses() -> list[int]:
            transport = httpx.ASGITransport(app)
            async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
                before = await client.get("/readyz")
                async with app.router.lifespan_context(app):
                    during = await client.get("/readyz")
                after = await client.get("/readyz")
                return [before.status_code, during.status_code, after.status_code]

        assert finished(statuses()) == [503, 200, 503]

    def test_not_ready_while_the_network_warms_up(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        warming, warmed = threading.Event(), threading.Event()

        def warm_up(engine: TorchEngine, count: int) -> None:
            warming.set()
            assert warmed.wait(30)

        monkeypatch.setattr(TorchEngine, "warm_up", warm_up)
        app = create_app(settings_for(folder))

        async def check() -> None:
            transport = httpx.ASGITransport(app)
            async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
                context = app.router.lifespan_context(app)
                entering = asyncio.create_task(context.__aenter__())
                await asyncio.to_thread(warming.wait, 30)
                assert (await client.get("/healthz")).status_code == 200
                assert (await client.get("/readyz")).status_code == 503
                refused = await client.post("/segment", content=GOOD)
                assert_problem(refused, 503, "not ready")
                assert int(refused.headers["retry-after"]) >= 1
                warmed.set()
                await entering
                assert (await client.get("/readyz")).status_code == 200
                await context.__aexit__(None, None, None)

        finished(check())

    def test_nothing_is_segmented_after_shutdown_began(self, folder: Path) -> None:
        app = create_app(settings_for(folder))

        async def last() -> httpx.Response:
            async with async_client_for(app):
                pass
            transport = httpx.ASGITransport(app)
            async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
                return await client.post("/segment", content=GOOD)

        response = finished(last())
        assert_problem(response, 503)
        assert "retry-after" in response.headers

    def test_shutdown_answers_what_was_accepted(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        busy, free = threading.Event(), threading.Event()
        original = TorchEngine.run

        def run(engine: TorchEngine, pixels: Tensor, *, alone: bool) -> Tensor:
            busy.set()
            assert free.wait(30)
            return original(engine, pixels, alone=alone)

        monkeypatch.setattr(TorchEngine, "warm_up", lambda engine, count: None)
        app = create_app(settings_for(folder))
        monkeypatch.setattr(TorchEngine, "run", run)  # golden images have been seen

        async def check() -> list[int]:
            transport = httpx.ASGITransport(app)
            async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
                context = app.router.lifespan_context(app)
                await context.__aenter__()
                first = asyncio.create_task(client.post("/segment", content=GOOD))
                await asyncio.to_thread(busy.wait, 30)
                stopping = asyncio.create_task(context.__aexit__(None, None, None))
                await asyncio.sleep(0.05)
                ready = await client.get("/readyz")
                assert not stopping.done()
                free.set()
                time.sleep(0.3)  # noqa: ASYNC251 - the loop is the last to hear of the answer
                answer = await first
                return [ready.status_code, answer.status_code]

        assert finished(check()) == [503, 200]


class TestOneApp:
    def test_two_apps_share_nothing(self, folder: Path, tmp_path: Path) -> None:
        network = small_network("unet", num_classes=2)
        save_checkpoint(
            tmp_path / "other" / "pair.pth", network.state_dict(), manifest_for(network, "unet")
        )
        one = create_app(settings_for(folder))
        two = create_app(settings_for(tmp_path / "other", model="pair"))
        with client_for(one) as first, client_for(two) as second:
            assert first.get("/models").json()["active"] == "colours"
            assert second.get("/models").json()["active"] == "pair"

    def test_no_thread_outlives_an_app(self, folder: Path) -> None:
        before = set(threading.enumerate())
        with client_for(create_app(settings_for(folder))) as client:
            assert_still_serves(client)
        left = [thread.name for thread in set(threading.enumerate()) - before]
        kinds = ("device", "decode", "encode", "load")
        assert [name for name in left if name.startswith(kinds)] == []

    def test_a_device_that_is_not_there_stops_the_start(self, folder: Path) -> None:
        with pytest.raises(StartupError, match=r"device 'cuda:99'|device 'abacus'"):
            create_app(settings_for(folder, device="abacus"))

    def test_threads_that_are_not_to_be_had_stop_it_too(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        start = threading.Thread.start

        def refuse(thread: threading.Thread) -> None:
            if thread.name.startswith("encode"):
                raise RuntimeError("can't start new thread")
            start(thread)

        monkeypatch.setattr(threading.Thread, "start", refuse)
        with pytest.raises(StartupError, match="--threads 3: can't start new thread"):
            create_app(settings_for(folder, threads=3))

    @pytest.mark.parametrize(("batch_pixels", "largest"), [(1, 1), (3 * 32 * 32, 3)])
    def test_a_batch_is_bounded_in_pixels(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch, batch_pixels: int, largest: int
    ) -> None:
        sizes: list[int] = []
        original = TorchEngine.run

        def run(engine: TorchEngine, pixels: Tensor, *, alone: bool) -> Tensor:
            sizes.append(len(pixels))
            return original(engine, pixels, alone=alone)

        monkeypatch.setattr(TorchEngine, "warm_up", lambda engine, count: None)
        app = create_app(settings_for(folder, batch_pixels=batch_pixels, max_queue=30))
        monkeypatch.setattr(TorchEngine, "run", run)  # golden images have been seen

        async def load() -> None:
            async with async_client_for(app) as client:
                posts = (client.post("/segment", content=GOOD) for _ in range(30))
                for response in await asyncio.gather(*posts):
                    assert response.status_code == 200

        finished(load())
        assert sum(sizes) == 30
        assert max(sizes) <= largest


class TestDocumentation:
    def test_the_documentation_needs_no_other_host(self, client: Client) -> None:
        page = client.get("/docs")
        assert page.status_code == 200
        assert "swagger" in page.text.lower()
        assert not re.findall(r"""["'(](?:https?:)?//""", page.text)
        for reference in References(page.text).found:
            assert client.get(urljoin("/docs", reference)).status_code == 200, reference

    def test_every_route_is_described(self, client: Client) -> None:
        document = client.get("/openapi.json").json()
        described = {
            f"{method.upper()} {path}"
            for path, methods in document["paths"].items()
            for method in methods
        }
        assert described == {
            "POST /segment",
            "POST /segment/batch",
            "GET /models",
            "GET /models/{name}",
            "POST /models/{name}/load",
            "POST /models/{name}/activate",
            "POST /models/{name}/unload",
            "GET /healthz",
            "GET /readyz",
            "GET /metrics",
        }

    def test_every_reference_in_the_description_resolves(self, client: Client) -> None:
        document = client.get("/openapi.json").json()
        assert document["openapi"].startswith("3.1")
        references = set(re.findall(r'"\$ref": ?"([^"]+)"', json.dumps(document)))
        assert references
        for reference in references:
            node: Any = document
            for part in reference.removeprefix("#/").split("/"):
                node = node[part]
            assert node

    def test_the_upload_and_both_answers_are_described(self, client: Client) -> None:
        operation = client.get("/openapi.json").json()["paths"]["/segment"]["post"]
        assert {"multipart/form-data", "image/*"} <= set(operation["requestBody"]["content"])
        assert {"application/json", "image/png"} <= set(operation["responses"]["200"]["content"])

    def test_problems_are_described_as_they_are_sent(self, client: Client) -> None:
        document = client.get("/openapi.json").json()
        for path, methods in document["paths"].items():
            for operation in methods.values():
                for status, response in operation["responses"].items():
                    if status.startswith("4"):
                        types = list(response["content"])
                        assert types == ["application/problem+json"], (path, status)

    def test_every_problem_of_segment_is_described(self, client: Client) -> None:
        responses = client.get("/openapi.json").json()["paths"]["/segment"]["post"]["responses"]
        assert {"400", "404", "406", "413", "415", "422", "503"} <= set(responses)


class TestPage:
    def test_the_page_is_served_at_the_root(self, client: Client) -> None:
        response = client.get("/")
        assert response.status_code == 200
        assert response.headers["content-type"].startswith("text/html")
        assert response.text == (WEB / "index.html").read_text(encoding="utf-8")

    def test_every_link_on_the_page_leads_somewhere_here(self, client: Client) -> None:
        references = References(client.get("/").text).found
        links = [each for each in references if not each.startswith(("data:", "#"))]
        assert links
        for link in links:
            assert link.startswith("/"), link
            assert client.get(link).status_code == 200, link

    def test_what_the_page_loads_has_the_type_that_browsers_ask_for(self, client: Client) -> None:
        types = {".js": "javascript", ".css": "text/css", ".html": "text/html", ".svg": "svg"}
        for path in WEB.iterdir():
            response = client.get(f"/web/{path.name}")
            assert response.status_code == 200
            assert types[path.suffix] in response.headers["content-type"]

    @pytest.mark.parametrize(
        "path", ["/web/none.js", "/web/../app.py", "/web/..%2fapp.py", "/web/%2e%2e/app.py"]
    )
    def test_nothing_but_its_own_files_is_served(self, client: Client, path: str) -> None:
        assert_problem(client.get(path), 404)


def test_the_settings_name_the_checkpoint_that_answers(folder: Path) -> None:
    save_colours(folder / "other.pth")
    with client_for(create_app(settings_for(folder, model="other"))) as client:
        response = client.post("/segment", content=GOOD)
    assert response.json()["model"] == "other"
    assert response.headers["x-model"] == "other"
