"""Finds the command, imports its file alone, and turns errors into one line.

`tenfold --help` is written here without typer: it answers in a moment and imports nothing heavy.
"""

from __future__ import annotations

import sys
from importlib import import_module
from typing import TYPE_CHECKING

from tenfold.errors import InvalidRequest, TenfoldError, UnknownName

if TYPE_CHECKING:
    import typer

# name: (module, one line). The lines are checked against the commands' docstrings by a test.
COMMANDS = {
    "serve": ("serve", "Serve a model over HTTP, with the playground."),
    "chat": ("chat", "Chat with a model in the terminal."),
    "generate": ("generate", "Generate text from prompts."),
    "score": ("score", "Score given answers with a reward."),
    "eval": ("evaluate", "Answer a file of prompts and measure how many are right."),
    "train": ("train", "Train on preferences, and see what training does to them."),
    "quantize": ("quantize", "Quantize a model's weights, activations and cache to few bits."),
    "memory": ("memory", "Remember what was said, find it again, erase it for good."),
    "bench": ("bench", "Run a benchmark and print its figures."),
    "doctor": ("doctor", "Show what runs here and why."),
}

_HELP = """\
Usage: tenfold [--debug] COMMAND [OPTIONS]

  Serve language models so that answers get better while they are being generated.

Commands:
{commands}

Options:
  --debug      show the traceback of an error
  --version    print the version
  --help       show this; `tenfold COMMAND --help` for a command's options
"""


def help_text() -> str:
    """What `tenfold --help` prints."""
    lines = (f"  {name:<12} {line}" for name, (_, line) in COMMANDS.items())
    return _HELP.format(commands="\n".join(lines))


def make_app(*names: str) -> typer.Typer:
    """The application with the given commands; importing only these keeps the others free."""
    import typer

    app = typer.Typer(name="tenfold", pretty_exceptions_enable=False, add_completion=False)
    app.callback()(lambda: None)  # with a single command, typer would drop its name
    for name in names:
        module = import_module(f"tenfold.cli.{COMMANDS[name][0]}")
        if hasattr(module, "app"):  # a command with commands of its own
            app.add_typer(module.app, name=name)
        else:
            app.command(name)(module.command)
    return app


def main(argv: list[str] | None = None) -> None:
    """The console script. Exits with 2 for errors a user can correct, 130 when interrupted."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    debug = bool(arguments) and arguments[0] == "--debug"
    if debug:
        arguments.pop(0)
    if not arguments or arguments[0] in ("--help", "-h", "help"):
        sys.stdout.write(help_text())
        return
    if arguments[0] == "--version":
        from tenfold import __version__

        sys.stdout.write(f"tenfold {__version__}\n")
        return
    if "--debug" in arguments:
        debug = True
        arguments.remove("--debug")
    try:
        _run(arguments)
    except TenfoldError as e:
        if debug:
            raise
        from tenfold.cli.output import show_error

        show_error(e)
        sys.exit(2)
    except BrokenPipeError:
        # The reader (head, less) has gone; keep Python from complaining when it flushes stdout.
        sys.stdout = None
        sys.exit(0)
    except KeyboardInterrupt:
        sys.exit(130)


def _run(arguments: list[str]) -> None:
    name = arguments[0]
    if name not in COMMANDS:
        raise UnknownName("command", name, COMMANDS)
    import typer

    try:
        code = make_app(name)(arguments, prog_name="tenfold", standalone_mode=False)
    except typer.Abort:
        raise KeyboardInterrupt from None
    except Exception as e:
        if not hasattr(e, "format_message"):  # not one of click's own
            raise
        context = getattr(e, "ctx", None)  # of the innermost command that was read
        command = context.command_path if context is not None else f"tenfold {name}"
        raise InvalidRequest(e.format_message(), hint=f"see `{command} --help`") from None
    if code:
        sys.exit(code)
