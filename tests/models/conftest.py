"""What tests of the compiled sources share."""

import pytest

from models import compiled


class WithInstructions:
    """The library on a processor that has no more than these."""

    def __init__(self, instructions: int) -> None:
        library = compiled.library()
        assert library is not None
        self.segment, self.blend = library.segment, library.blend
        self.instructions = lambda: instructions


@pytest.fixture(params=[0, 1, 2], ids=["any processor", "AVX2", "AVX-512"])
def instructions(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each set of them that this processor has."""
    library = compiled.library()
    if library is None:
        pytest.skip("there was no C compiler at installation")
    if request.param > library.instructions():
        pytest.skip("this processor has none of them")
    limited = WithInstructions(request.param)
    monkeypatch.setattr(compiled, "library", lambda: limited)
