"""Where commands write for people."""

from rich.console import Console


def plain_console(*, stderr: bool = False, soft_wrap: bool = False, quiet: bool = False) -> Console:
    """Shows texts as they are: no brackets read as styles, no `:b:` as an emoji, no numbers in
    colour. `soft_wrap` leaves long lines whole; tables and bars fit themselves to the terminal
    instead."""
    return Console(
        stderr=stderr,
        soft_wrap=soft_wrap,
        quiet=quiet,
        markup=False,
        emoji=False,
        highlight=False,
    )
