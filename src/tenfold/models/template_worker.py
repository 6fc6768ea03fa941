"""The other side of `template_process`: renders one chat template in a sandbox.

Off the main process: run as a file, it imports jinja2 and the standard library only. It reads the
template's source as one line of JSON, then one line of variables per rendering, and answers each
with a line `{"text": ...}` or `{"error": ...}`. The names and filters templates may use are those
transformers offers.
"""

from __future__ import annotations

import contextlib
import datetime
import json
import signal
import sys
from collections.abc import Callable
from typing import Any

import jinja2
from jinja2 import nodes
from jinja2.ext import Extension
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

MEMORY = 512 * 2**20  # bytes of address space
SOURCE = 2**20  # characters of a template
OUTPUT = 8 * 2**20  # characters of one prompt
ALONE = 20  # seconds after which a rendering ends itself, should nobody be left to end it


class Generation(Extension):
    """`{% generation %}`, a mark for training masks: the body is rendered as it stands."""

    tags = {"generation"}  # noqa: RUF012  (the base class declares it so)

    def parse(self, parser: Parser) -> nodes.Node | list[nodes.Node]:
        """Read up to `{% endgeneration %}`."""
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.Scope(body, lineno=line)


def raise_exception(message: str) -> None:
    """Lets a template refuse a conversation."""
    raise jinja2.TemplateError(message)


def tojson(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """JSON as models read it: without the HTML escapes of jinja's own filter."""
    return json.dumps(
        value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
    )


def strftime_now(form: str) -> str:
    """The local time in a `strftime` form."""
    return datetime.datetime.now().strftime(form)


def environment() -> ImmutableSandboxedEnvironment:
    """The sandbox with the extras that published chat templates use."""
    env = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, "jinja2.ext.loopcontrols"]
    )
    env.filters["tojson"] = tojson
    env.globals["raise_exception"] = raise_exception
    env.globals["strftime_now"] = strftime_now
    return env


def render(template: jinja2.Template, variables: dict[str, Any]) -> str:
    """The rendered text. Raises ValueError beyond OUTPUT characters."""
    parts, size = [], 0
    for part in template.generate(variables):
        size += len(part)
        if size > OUTPUT:
            raise ValueError(f"it writes more than {OUTPUT} characters")
        parts.append(part)
    return "".join(parts)


def answer(action: Callable[[], str]) -> dict[str, str]:
    """What the template yields, or what went wrong."""
    try:
        return {"text": action()}
    except MemoryError:
        return {"error": "it needs too much memory"}
    except RecursionError:
        return {"error": "it nests too deeply"}
    except Exception as e:  # noqa: BLE001  (a template can raise anything; the process is its cage)
        return {"error": f"{type(e).__name__}: {e}"[:2000]}


def syntax_error(source: str) -> str | None:
    """What keeps a text from being a template; None if it can be compiled.

    It is only parsed: nothing of it is computed, constants included, so any process may ask.
    """
    if len(source) > SOURCE:
        return f"it has {len(source)} characters, {SOURCE} at most are read"
    try:
        environment().parse(source)
    except jinja2.TemplateSyntaxError as e:
        return f"line {e.lineno}: {e.message}"
    except RecursionError:
        return "it nests too deeply"
    except ValueError as e:  # a number of thousands of digits
        return str(e)
    return None


def limit_memory() -> None:
    """Cap this process's address space, where the system can."""
    with contextlib.suppress(ImportError, ValueError, OSError):
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))


def watch(seconds: int) -> None:
    """Let the system end this process in so many seconds, where it can; 0 calls that off."""
    if hasattr(signal, "alarm"):
        signal.alarm(seconds)


def main() -> None:
    """Serve until the pipe closes."""
    source: str = json.loads(sys.stdin.buffer.readline())
    out = sys.stdout.buffer
    limit_memory()
    out.write(b"ready\n")
    out.flush()
    env, compiled = environment(), list[jinja2.Template]()
    for line in sys.stdin.buffer:

        def act(line: bytes = line) -> str:
            # Compiled within the first rendering's time: constant folding already computes.
            if not compiled:
                compiled.append(env.from_string(source))
            return render(compiled[0], json.loads(line))

        watch(ALONE)
        reply = answer(act)
        watch(0)
        out.write(json.dumps(reply).encode() + b"\n")
        out.flush()


if __name__ == "__main__":
    main()
