"""Numbers in sentences."""


def counted(number: int, noun: str) -> str:
    """The number and the noun, which takes an s where there is not one: "1 image", "2 images"."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"
