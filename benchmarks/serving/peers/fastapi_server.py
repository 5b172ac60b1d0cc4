"""FastAPI, as its documentation's pages "Request Files", "Return a Response Directly", "Lifespan
Events" and "Server Workers - Uvicorn with Workers" show it: a plain `def` route, which runs in a
thread."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated

import uvicorn
from fastapi import FastAPI, File, Response

from benchmarks.serving.peers.network import PORT, Network, workers

networks: dict[str, Network] = {}


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    networks["served"] = Network()
    yield


app = FastAPI(lifespan=lifespan)


@app.get("/healthz")
def healthz() -> dict[str, str]:
    return {"status": "ok"}


@app.post("/segment")
def segment(file: Annotated[bytes, File()]) -> Response:
    return Response(networks["served"].answer(file), media_type="image/png")


def main() -> None:
    port = int(os.environ[PORT])
    uvicorn.run(
        "benchmarks.serving.peers.fastapi_server:app",
        port=port,
        workers=workers(),
        timeout_worker_healthcheck=60,  # importing torch on a busy machine outlasts the usual 5 s
        log_level="warning",
    )


if __name__ == "__main__":
    main()
