"""The app in this process, asked one case after another."""

import time
import warnings
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import httpx

from service.app import create_app
from tests.fuzz.case import Case
from tests.fuzz.verdict import Outcome, judge
from tests.service.clients import SMALL_PASSES, async_client_for, settings_for
from tests.service.colours import save_colours

MAX_PIXELS = 4_000_000


class Asker:
    """Measures what each answer takes: CPU, which a busy machine does not change, and memory."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self._client = client

    async def outcome(self, case: Case) -> Outcome:
        before = _begin_peak()
        began = time.process_time()
        response = await self._ask(case)
        cpu_s = time.process_time() - began
        memory = None if before is None else max(0, _memory("VmHWM") - before)
        return judge(case.number, response, cpu_s, memory)

    async def _ask(self, case: Case) -> httpx.Response:
        headers = {"Accept": "image/png"} if case.wants_png else {}
        if case.filename is not None:
            kind = case.content_type or "image/png"
            files = {"file": (case.filename, case.content, kind)}
            return await self._client.post("/segment", files=files, headers=headers)
        if case.content_type is not None:
            headers["Content-Type"] = case.content_type
        return await self._client.post("/segment", content=case.content, headers=headers)


@asynccontextmanager
async def asking(folder: Path) -> AsyncIterator[Asker]:
    """A started app with a narrow network, whose checkpoint is written to `folder`."""
    save_colours(folder / "colours.pth")
    settings = settings_for(
        folder,
        max_pixels=MAX_PIXELS,
        threads=1,
        batch_pixels=SMALL_PASSES,
        max_upload_bytes=1 << 20,
    )
    warnings.filterwarnings("ignore", module="PIL")  # as the service's own process does
    async with async_client_for(create_app(settings)) as client:
        yield Asker(client)


def _begin_peak() -> int | None:
    """Memory in use now; from here on its peak is kept. None where the system cannot."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
        return _memory("VmRSS")
    return None


def _memory(field: str) -> int:
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith(f"{field}:"))
