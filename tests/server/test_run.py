from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import httpx

ROOT = Path(__file__).parents[2]
SCRIPT = """
from typing import cast
from tenfold.engine.async_engine import AsyncEngine
from tenfold.search.llm import AsyncLLM
from tenfold.server.run import serve
from tests.server.models import Script, ScriptedEngine, tiny_model

class Engine(ScriptedEngine):
    async def close(self):
        print("engine closed", flush=True)

model = tiny_model()
llm = AsyncLLM(model, Engine(model.tokenizer, Script()))
serve(llm, port=0, ready=lambda address: print(address, flush=True))
model.chat_template.close()
"""


def test_a_signal_stops_the_server_and_its_engine() -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    with process:
        assert process.stdout
        address = process.stdout.readline().strip()
        assert httpx.get(address + "/health").status_code == 200
        process.send_signal(signal.SIGTERM)
        out, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    assert out == "engine closed\n"
