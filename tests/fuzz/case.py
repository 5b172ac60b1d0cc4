"""One case: a file and how it is sent, the same for the same two numbers and seeds."""

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from tests.fuzz.amplification import AMPLIFICATIONS
from tests.fuzz.damage import DAMAGE, splice
from tests.fuzz.forgery import FORGERIES
from tests.fuzz.seeds import Seed

MAX_BYTES = 400_000
TYPES = (
    *("image/jpeg", "image/png", "image/webp", "image/svg+xml", "application/octet-stream"),
    *("application/x-www-form-urlencoded", "IMAGE/GIF; charset=x", "image/", None),
)
NAMES = (
    "photo.jpg",
    "../../etc/passwd",
    "C:\\boot.ini",
    "",
    "\u202egpj.exe",
    "a" * 2000,
    "%00.png",
)


@dataclass(frozen=True)
class Case:
    """`steps` say what was done to which seed; a form where there is a file name."""

    number: int
    content: bytes
    steps: tuple[str, ...]
    content_type: str | None
    filename: str | None
    wants_png: bool


def make_case(seed: int, number: int, seeds: Sequence[Seed]) -> Case:
    random = Random(f"{seed}/{number}")
    start = random.choice(seeds)
    content, steps = bytearray(start.content), [start.name]
    for _ in range(random.choice((0, 1, 1, 1, 2, 3)) if number % 50 else 0):
        content, step = _mutated(content, start.format, seeds, random)
        steps.append(step)
    return Case(
        number,
        bytes(content[:MAX_BYTES]),
        tuple(steps),
        "text/plain" if random.random() < 0.02 else random.choice(TYPES),
        random.choice(NAMES) if random.random() < 0.3 else None,
        random.random() < 0.5,
    )


def _mutated(
    content: bytearray, format: str, seeds: Sequence[Seed], random: Random
) -> tuple[bytearray, str]:
    if len(content) < 16:
        return content, "too short for more"
    chance = random.random()
    if chance < 0.5:
        forge = FORGERIES[format]
        if chance < 0.05:
            forge = AMPLIFICATIONS.get(format, forge)
        return forge(content, random), forge.__name__
    if chance < 0.6:
        other = random.choice(seeds)
        return splice(content, other.content, random), f"splice with {other.name}"
    damage = random.choice(DAMAGE)
    return damage(content, random), damage.__name__
