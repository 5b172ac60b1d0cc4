"""What routes ask for, as named types."""

from dataclasses import dataclass, field
from typing import Annotated

from fastapi import Depends, Request

from service.catalog import Catalog
from service.segmenter import Segmenter
from service.settings import Settings
from service.telemetry.telemetry import Telemetry


@dataclass
class State:
    """Everything one app holds; `ready` is true between warm-up and shutdown."""

    settings: Settings
    catalog: Catalog
    segmenter: Segmenter
    telemetry: Telemetry
    ready: bool = field(default=False)


def _state(request: Request) -> State:
    state: State = request.app.state.service
    return state


AppState = Annotated[State, Depends(_state)]
