"""A plugin for pytest: `models.compiled` finds the library that the variable COMPILED names."""

import os
from types import SimpleNamespace

from models import compiled

compiled.find_spec = lambda _: SimpleNamespace(origin=os.environ["COMPILED"])  # type: ignore
assert compiled.library() is not None  # else its tests would be skipped
