"""What routes ask for, as named types."""

from dataclasses import dataclass, field
from typing import Annotated

from fastapi import Depends, Request

from service.catalog import Catalog
from service.codec import Codec
from service.errors import OverloadedError
from service.registry import Registry
from service.settings import Settings
from service.telemetry.telemetry import Telemetry


@dataclass
class State:
    """Everything one app holds; `ready` is true between warm-up and shutdown."""

    settings: Settings
    catalog: Catalog
    codec: Codec
    registry: Registry
    telemetry: Telemetry
    ready: bool = field(default=False)


def _state(request: Request) -> State:
    state: State = request.app.state.service
    return state


AppState = Annotated[State, Depends(_state)]


def require_ready(state: State) -> None:
    if not state.ready:
        raise OverloadedError("the service is not ready; see /readyz", reason="not_ready")
