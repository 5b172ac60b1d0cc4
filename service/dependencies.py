"""What routes ask for, as named types."""

from dataclasses import dataclass
from typing import Annotated, Literal

from fastapi import Depends, Request

from service.admission import Admission
from service.batcher import Batcher
from service.codec import Codec
from service.errors import OverloadedError
from service.listing import Listing
from service.registry import Registry
from service.settings import Settings
from service.telemetry.telemetry import Telemetry


@dataclass
class State:
    """Everything one app holds."""

    settings: Settings
    listing: Listing
    codec: Codec
    registry: Registry
    admission: Admission
    telemetry: Telemetry
    phase: Literal["starting", "ready", "stopping"] = "starting"

    @property
    def ready(self) -> bool:
        """Past the warm-up and not told to stop."""
        return self.phase == "ready"

    def trouble(self) -> str | None:
        """What only a new process would mend."""
        patience_s = self.settings.device_timeout_s
        workers: list[Codec | Batcher] = [self.codec]
        workers += (model.batcher for model in self.registry.models())
        reasons = (worker.trouble(patience_s=patience_s) for worker in workers)
        return next(filter(None, reasons), None)

    def stop(self) -> None:
        """Nothing new is begun; may be called from a signal's handler."""
        self.phase = "stopping"
        self.listing.stop()
        self.registry.stop()


def state_of(request: Request) -> State:
    state: State = request.app.state.service
    return state


async def _state(request: Request) -> State:  # else it would need a thread, and wait for one
    return state_of(request)


AppState = Annotated[State, Depends(_state)]


def require_ready(state: State) -> None:
    if state.phase == "stopping":
        raise OverloadedError("the service is stopping", reason="draining")
    if not state.ready:
        raise OverloadedError("the service is not ready; see /readyz", reason="not_ready")


def require_working(state: State) -> None:
    """Ready, and with nothing stuck: nobody waits for what will not come."""
    require_ready(state)
    if state.trouble() is not None:
        raise OverloadedError("something is stuck; see /healthz", reason="stuck")
