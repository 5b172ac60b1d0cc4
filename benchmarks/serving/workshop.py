"""What scenarios share: photographs and checkpoints, each made when it is first asked for, and a
turn of load on a server."""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path

from benchmarks.serving.checkpoints import copy_checkpoint, in_tiles, make_checkpoint, twin
from benchmarks.serving.contenders import Contender, ours, peers
from benchmarks.serving.images import image_files, photographs
from benchmarks.serving.load_job import Job, LoadResult, run_load
from benchmarks.serving.plan import Options, Plan
from benchmarks.serving.request import Photograph, batch_bytes, request_bytes
from benchmarks.serving.servers import Server, serving
from trainer.data.dataset import VocFolder

logger = logging.getLogger(__name__)

LARGE_NETWORK = "unet_resnet50"
LATE_S = 600.0


class Workshop:
    """Everything lies under `options.work`."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self.checkpoints = options.work / "checkpoints"
        self.requests = options.work / "requests"
        for folder in (self.checkpoints, self.requests):
            folder.mkdir(parents=True, exist_ok=True)

    @property
    def plan(self) -> Plan:
        return self.options.plan

    @property
    def picture_folder(self) -> Path:
        return self.options.work / "photographs"

    @cached_property
    def pictures(self) -> list[Photograph]:
        return photographs(self._sources(), self.picture_folder, self.plan.pictures)

    @cached_property
    def resnet(self) -> Path:
        return self._made(LARGE_NETWORK)

    @cached_property
    def unet(self) -> Path:
        return self._made("unet")

    @cached_property
    def carried(self) -> Path:
        return copy_checkpoint(self.options.carried, self.checkpoints)

    @cached_property
    def tiled(self) -> Path:
        """The carried checkpoint in the input mode `tile`."""
        return in_tiles(self.carried, self.checkpoints)

    @cached_property
    def twin(self) -> Path:
        """The carried checkpoint under another name."""
        return twin(self.carried)

    def service(
        self, precision: str, *, extra: Sequence[str] = (), is_guarded: bool = False
    ) -> Contender:
        """Ours at a precision, with photographs to calibrate on and `extra` options."""
        assert self.pictures
        return ours(
            precision,
            device=self.options.device,
            engine=self.options.engine,
            calibration=self.picture_folder,
            cache=self.options.work / "cache",
            extra=extra,
            is_guarded=is_guarded,
        )

    def peers(self) -> list[Contender]:
        wanted = {name.lower() for name in self.options.peers}
        found = peers(self.options.peers_python)
        return [peer for peer in found if peer.name.lower().split()[0] in wanted]

    @contextmanager
    def running(self, contender: Contender, checkpoint: Path) -> Iterator[Server]:
        """The contender's server; every other is stopped meanwhile."""
        contender.require_installed()
        name = f"{contender.name}-{checkpoint.stem}".replace(" ", "-").replace(",", "")
        log = self.options.work / f"{name}.log"
        timeout_s = self.plan.start_timeout_s
        with serving(contender.command(checkpoint), log=log, timeout_s=timeout_s) as server:
            logger.info("%s: ready after %.1f s", contender.name, server.started_s)
            yield server

    def load(
        self,
        server: Server,
        contender: Contender,
        *,
        clients: int,
        pictures: list[Photograph] | None = None,
        count: int = 0,
        rate: float = 0.0,
        seconds: float | None = None,
        warmup_s: float | None = None,
        images: int = 1,
    ) -> LoadResult:
        """One turn: `warmup_s` and `seconds`, or the plan's; or `count` requests without a warm-up.
        With a `rate` requests come at it, from as many clients as it takes. More than one of the
        `images` of a request go to /segment/batch, which is the service's alone."""
        pictures = pictures or self.pictures
        job = Job(
            port=server.port,
            requests=self.written(pictures, contender)
            if images == 1
            else self.written_batches(pictures, contender, images),
            clients=clients,
            warmup_s=0.0 if count else self.plan.warmup_s if warmup_s is None else warmup_s,
            seconds=0.0 if count else seconds or self.plan.seconds,
            count=count,
            timeout_s=LATE_S,
            rate=rate,
            images=images,
        )
        result = run_load(job)
        who = f"{rate:.0f} arrivals/s" if rate else f"{clients} clients"
        logger.info(
            "%s, %s: %.2f/s, p50 %.0f ms, p99 %.0f ms", contender.name, who, result.per_second,
            result.p50_ms, result.p99_ms,
        )  # fmt: skip
        for failure in result.failures:
            logger.warning("%s: %s", contender.name, failure)
        return result

    def written(
        self, pictures: list[Photograph], contender: Contender
    ) -> list[tuple[str, int, int]]:
        """Request files for the load generator."""
        files = []
        path, form, key = contender.path, contender.form, contender.key
        for picture in pictures:
            name = f"{form}{path.replace('/', '-')}-{'key-' if key else ''}{picture.path.name}.http"
            file = self.requests / name
            if key or not file.exists():  # a key is every contender's own
                file.write_bytes(request_bytes(picture, path, form=form, key=key))
            files.append((str(file), picture.width, picture.height))
        return files

    def written_batches(
        self, pictures: list[Photograph], contender: Contender, images: int
    ) -> list[tuple[str, int, int]]:
        """As `written`, with so many pictures of one size in each; every picture is the first of
        one."""
        files = []
        for first, picture in enumerate(pictures):
            some = [pictures[(first + more) % len(pictures)] for more in range(images)]
            file = self.requests / f"batch-{images}-{picture.path.name}.http"
            file.write_bytes(batch_bytes(some, "/segment/batch", key=contender.key))
            files.append((str(file), picture.width, picture.height))
        return files

    def _sources(self) -> list[Path]:
        """Photographs on this disk; of a dataset only what is trained on, so that calibrating
        with them does not touch what accuracy is measured on."""
        if self.options.images is not None:
            return image_files(self.options.images)
        if self.options.data is None:
            return []
        folder = VocFolder.open(self.options.data)
        return [folder.image_path(image_id) for image_id in folder.split("train")]

    def _made(self, architecture: str) -> Path:
        logger.info("making %s", architecture)
        return make_checkpoint(self.checkpoints, architecture, self.pictures)
