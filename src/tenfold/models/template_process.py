"""The process a chat template runs in, seen from the server's side.

On the main path: `chat_template.ChatTemplate` holds one. It is started on first use, kept for the
next request, and killed when a rendering exceeds its time; the one after that starts a fresh one.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
import weakref
from pathlib import Path

from tenfold.errors import TemplateError

_START = 30.0  # seconds the process may take to say that it is ready
_ENVIRONMENT = ("PATH", "LD_LIBRARY_PATH", "SYSTEMROOT", "TEMP", "TMP", "TZ")
_WORKER = Path(__file__).with_name("template_worker.py")


class TemplateProcess:
    """Renders one template, a request at a time, within `seconds` each."""

    def __init__(self, source: str, seconds: float) -> None:
        self._source = source
        self._seconds = seconds
        self._lock = threading.Lock()
        self._child: subprocess.Popen[bytes] | None = None
        self._ending: weakref.finalize[..., TemplateProcess] | None = None

    def render(self, variables: str) -> str:
        """The text for variables given as JSON. Raises TemplateError as `ChatTemplate.render`."""
        with self._lock:
            if self._child is not None and self._child.poll() is not None:
                self._end()  # something outside ended it
            child = self._child or self._start()
            reply = self._exchange(child, variables)
        if "error" in reply:
            raise TemplateError(
                f"the chat template failed: {reply['error']}",
                hint="check the messages against the model's chat format",
            )
        return reply["text"]

    def close(self) -> None:
        """End the process if it runs."""
        with self._lock:
            self._end()

    def _start(self) -> subprocess.Popen[bytes]:
        # The worker is run as a file, so that it imports jinja2 and nothing of tenfold.
        # Of the environment it gets what a Python needs to start: no keys, no tokens.
        kept = {name: os.environ[name] for name in _ENVIRONMENT if name in os.environ}
        paths = os.pathsep.join(p for p in sys.path if p)
        child = subprocess.Popen(
            [sys.executable, "-P", str(_WORKER)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**kept, "PYTHONPATH": paths},
            start_new_session=True,  # an interrupt in the terminal is the server's to handle
        )
        self._child = child
        self._ending = weakref.finalize(self, _stop, child)
        self._send(child, json.dumps(self._source))
        self._receive(child, _START, "the process for chat templates did not start")
        return child

    def _exchange(self, child: subprocess.Popen[bytes], variables: str) -> dict[str, str]:
        self._send(child, variables)
        limit = f"the chat template took more than {self._seconds} s or too much memory"
        line = self._receive(child, self._seconds, limit)
        reply: dict[str, str] = json.loads(line)
        return reply

    def _send(self, child: subprocess.Popen[bytes], line: str) -> None:
        assert child.stdin is not None
        try:
            child.stdin.write(line.encode() + b"\n")
            child.stdin.flush()
        except OSError as e:
            self._end()
            raise TemplateError(
                f"the process for chat templates ended: {e}", hint="the next request starts another"
            ) from None

    def _receive(self, child: subprocess.Popen[bytes], seconds: float, failure: str) -> bytes:
        """One line from the worker. If none comes: kills the process and raises TemplateError."""
        assert child.stdout is not None
        timer = threading.Timer(seconds, child.kill)  # which closes the pipe, so the read ends
        timer.start()
        try:
            line = child.stdout.readline()
        finally:
            timer.cancel()
        if not line.endswith(b"\n"):
            self._end()
            raise TemplateError(failure, hint="a template should need a few milliseconds")
        return line

    def _end(self) -> None:
        self._child = None
        if self._ending is not None:
            self._ending()


def _stop(child: subprocess.Popen[bytes]) -> None:
    child.kill()
    for pipe in (child.stdin, child.stdout):
        if pipe is not None:
            with contextlib.suppress(OSError):  # unsent bytes for a process that is gone
                pipe.close()
    child.wait()
