"""What every endpoint is given: the model, the settings and the server's own bookkeeping."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

from tenfold.search.llm import AsyncLLM
from tenfold.server.admission import Admission
from tenfold.server.catalog import Catalog
from tenfold.server.examples import read_examples
from tenfold.server.memories import Memories
from tenfold.server.metrics import Metrics
from tenfold.server.settings import ServerSettings

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Context:
    """One served model."""

    llm: AsyncLLM
    settings: ServerSettings
    catalog: Catalog
    admission: Admission
    metrics: Metrics
    preparing: ThreadPoolExecutor  # templates and tokenizers: not behind the embeddings' threads
    memories: Memories | None = None

    @classmethod
    def of(cls, llm: AsyncLLM, settings: ServerSettings) -> Context:
        """Raises InvalidRequest for presets that no request could use."""
        name = settings.model_name or llm.model.name
        admission = Admission(settings.max_running, settings.max_waiting)
        return cls(
            llm=llm,
            settings=settings,
            catalog=Catalog(name, llm.context_length, settings, read_examples(llm.model.folder)),
            admission=admission,
            metrics=Metrics(name, llm.stats, lambda: admission.waiting),
            preparing=ThreadPoolExecutor(2, thread_name_prefix="tenfold-prepare"),
            memories=Memories(settings.memory, settings.max_waiting) if settings.memory else None,
        )

    def close(self) -> None:
        """Closes what requests opened; the model is its owner's."""
        if self.memories is not None:
            self.memories.close()

    async def prepare(self, work: Callable[[], T]) -> T:
        """Runs what would hold up the event loop: others are served meanwhile."""
        return await asyncio.get_running_loop().run_in_executor(self.preparing, work)
