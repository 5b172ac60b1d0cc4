"""FastAPI, as its documentation's pages "Request Files", "Return a Response Directly" and "Server
Workers - Uvicorn with Workers" show it: a plain `def` route, which runs in a thread."""

import os
from functools import cache
from typing import Annotated

import uvicorn
from fastapi import FastAPI, File, Response

from benchmarks.serving.peers.network import PORT, Network, workers

app = FastAPI()


@cache
def network() -> Network:
    return Network()


@app.get("/healthz")
def healthz() -> dict[str, str]:
    network()  # ready means loaded
    return {"status": "ok"}


@app.post("/segment")
def segment(file: Annotated[bytes, File()]) -> Response:
    return Response(network().answer(file), media_type="image/png")


def main() -> None:
    port = int(os.environ[PORT])
    uvicorn.run(
        "benchmarks.serving.peers.fastapi_server:app",
        port=port,
        workers=workers(),
        log_level="warning",
    )


if __name__ == "__main__":
    main()
