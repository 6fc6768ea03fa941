"""What commands write: rich on a terminal, plain JSON for programs, errors as one red line."""

from __future__ import annotations

import json
import logging
import re
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console

    from tenfold.errors import TenfoldError

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def console() -> Console:
    """Standard output."""
    from rich.console import Console

    return Console(highlight=False)


def notes() -> Console:
    """Standard error: progress and remarks, which never mix with results."""
    from rich.console import Console

    return Console(stderr=True, highlight=False)


def write_json(value: Any) -> None:
    """One JSON document on standard output."""
    sys.stdout.write(json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def write_line(value: Any) -> None:
    """One line of JSON on standard output."""
    sys.stdout.write(json.dumps(value, ensure_ascii=False) + "\n")
    sys.stdout.flush()


def show_error(error: TenfoldError) -> None:
    """The message in red and the hint, on standard error, in one line."""
    from rich.text import Text

    line = Text("error: ", style="bold red") + Text(error.message, style="red")
    if error.hint:
        line += Text(f" ({error.hint})", style="default")
    notes().print(line, soft_wrap=True)


def printable(text: str) -> str:
    """A model's text without control characters: it must not steer the reader's terminal."""
    return _CONTROL.sub("\N{REPLACEMENT CHARACTER}", text)


def quiet_logging(level: int = logging.WARNING) -> None:
    """Log records to standard error in one line each."""
    logging.basicConfig(
        level=level, format="%(asctime)s %(levelname)s %(name)s: %(message)s", stream=sys.stderr
    )
