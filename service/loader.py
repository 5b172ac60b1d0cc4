"""From a checkpoint's file to a model that answers."""

import logging
from pathlib import Path

from models import Checkpoint
from models.errors import ModelError
from models.manifest import Manifest
from service.batcher import Batcher
from service.catalog import read_checkpoint
from service.codec import Codec
from service.engines.capacity import find_capacity, pass_size, pass_sizes
from service.engines.choose import Wishes, choose_engine
from service.engines.engine import is_out_of_memory
from service.errors import OverloadedError, ServiceError, StartupError, UnservableModelError
from service.loaded import LoadedModel
from service.redaction import without_folders
from service.segmenter import Segmenter
from service.settings import Settings
from service.telemetry.telemetry import Telemetry
from service.trust import Trust

logger = logging.getLogger(__name__)

MAX_PASS_PIXELS = 1 << 22  # 64 inputs of 256x256: beyond that no device gets faster


class Loader:
    """Reads, chooses an engine, warms it up: seconds of work, for a thread of its own. After
    `stop` a load that is under way is given up before its next step."""

    def __init__(
        self, settings: Settings, codec: Codec, telemetry: Telemetry, trust: Trust
    ) -> None:
        self._settings = settings
        self._telemetry = telemetry
        self._codec = codec
        self._trust = trust
        self._capacities: dict[tuple[object, ...], int] = {}
        self._settled: set[tuple[object, ...]] = set()
        self._stopping = False

    def stop(self) -> None:
        """May be called from a signal's handler."""
        self._stopping = True

    def load(
        self,
        path: Path,
        name: str,
        *,
        instead_of: LoadedModel | None,
        expected: Manifest | None = None,
    ) -> LoadedModel:
        """A model that is warm; `instead_of` itself where the file is what it was loaded from.
        `expected` is what the file was seen to be by who asked, if that matters.

        Every failure is a ServiceError without a cause: an error's frames would keep the network
        for as long as somebody keeps the error.
        """
        try:
            return self._load(path, name, instead_of, expected)
        except ServiceError as error:
            failure = error.with_traceback(None)
        except Exception as error:  # noqa: BLE001 - runtimes raise anything
            failure = _failure(error, path, name)
        try:
            raise failure
        finally:
            del failure, instead_of  # the frame that its traceback shows

    def assemble(self, checkpoint: Checkpoint) -> LoadedModel:
        """An engine that passed the golden gate, and what feeds it; to be warmed up."""
        settings = self._settings
        wishes = Wishes(
            device=settings.device,
            engine=settings.engine,
            precision=settings.precision,
            compiled=settings.compile,
            exports=None if settings.allowed_sha256 else settings.checkpoints,
            cache=settings.cache,
            calibration_images=settings.calibration_images,
            golden_images=settings.golden_images,
            decode_on=settings.decode_on,
        )
        choice = choose_engine(checkpoint, wishes)
        manifest, watch = checkpoint.manifest, self._telemetry.watch(checkpoint.manifest)
        batcher = Batcher(choice.engine, on_pass=watch.pass_ended)
        segmenter = Segmenter(
            manifest,
            batcher,
            self._codec,
            decodes_on_device=choice.decodes,
            on_image=watch.image_ended,
        )
        return LoadedModel(manifest, choice, segmenter, on_close=watch.close)

    def warm_up(self, model: LoadedModel, *, undisturbed: bool = False) -> None:
        """The first passes choose kernels and allocate; no request should pay for that. Where no
        other model answers meanwhile they are `undisturbed`."""
        spec, warm = model.manifest.input, 0
        capacity = self._known_capacity(model)
        if capacity is None:
            capacity, warm = self._measured(model, undisturbed=undisturbed)
        capacity = self._warm(model, capacity, warm)
        logger.info("%d of %dx%d in a pass", capacity, spec.width, spec.height)
        model.batcher.start(capacity=capacity)

    def _warm(self, model: LoadedModel, capacity: int, warm: int) -> int:
        """Every pass of more than `warm` and at most `capacity`; as many as the memory holds
        beside what is loaded already."""
        engine = model.choice.engine
        for count in pass_sizes(capacity):
            self._require_going_on()
            if count <= warm:
                continue
            try:
                engine.warm_up(count)
            except Exception as error:
                if count == 1 or not is_out_of_memory(error):
                    raise
                logger.warning("%d images a pass do not fit the memory", count)
                engine.forget(count)
                return count // 2
        return capacity

    def _load(
        self, path: Path, name: str, instead_of: LoadedModel | None, expected: Manifest | None
    ) -> LoadedModel:
        self._require_going_on()
        step = self._telemetry.step
        with step("read"):
            checkpoint = read_checkpoint(path, self._trust, name=name)
        if expected is not None and checkpoint.manifest != expected:
            raise OverloadedError(f"the file of model {name!r} changes at the moment")
        if instead_of is not None and checkpoint.manifest == instead_of.manifest:
            return instead_of
        self._require_going_on()
        with step("choose engine"):
            model = self.assemble(checkpoint)
        del checkpoint  # not every engine needs PyTorch's network any more
        try:
            self._require_going_on()
            with step("warm up"):
                self.warm_up(model)
        except BaseException:
            model.discard()
            raise
        return model

    def _known_capacity(self, model: LoadedModel) -> int | None:
        """As set, or as found for the same network with any weights while nothing disturbed it."""
        fixed, spec = self._settings.batch_pixels, model.manifest.input
        if fixed is not None:
            return pass_size(max(1, min(fixed, MAX_PASS_PIXELS) // (spec.height * spec.width)))
        shape = _shape(model)
        return self._capacities[shape] if shape in self._settled else None

    def _measured(self, model: LoadedModel, *, undisturbed: bool) -> tuple[int, int]:
        """The largest pass that is known to be worthwhile, and the largest that is warm. Beside a
        model that is busy larger passes look slower than they are: such a figure counts only
        until it is measured again, and the largest of them is the best."""
        shape = _shape(model)
        found = find_capacity(
            model.choice.engine,
            model.manifest.input,
            max_pixels=MAX_PASS_PIXELS,
            require_going_on=self._require_going_on,
        )
        self._capacities[shape] = max(found, self._capacities.get(shape, 1))
        if undisturbed:
            self._settled.add(shape)
        return self._capacities[shape], found

    def _require_going_on(self) -> None:
        if self._stopping:
            raise OverloadedError("the service is stopping")


def _shape(model: LoadedModel) -> tuple[object, ...]:
    """What decides how fast a pass is."""
    manifest: Manifest = model.manifest
    return model.choice.engine.name, manifest.architecture, manifest.arguments, manifest.input


def _failure(error: Exception, path: Path, name: str) -> ServiceError:
    """What the client is told: the reason, without any place on this machine."""
    reason = without_folders(str(error).replace(f"{path.parent}/", ""))
    if isinstance(error, ModelError | StartupError):
        return UnservableModelError(f"model {name!r} cannot be loaded: {reason}")
    logger.error("loading %s failed", name, exc_info=error)
    if is_out_of_memory(error):
        return OverloadedError(f"there is no memory for model {name!r} beside what is loaded")
    return UnservableModelError(
        f"model {name!r} cannot be loaded: its engine failed; the log has the details"
    )
