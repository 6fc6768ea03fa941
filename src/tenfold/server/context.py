"""What every endpoint is given: the model, the settings and the server's own bookkeeping."""

from __future__ import annotations

from dataclasses import dataclass

from tenfold.search.llm import AsyncLLM
from tenfold.server.admission import Admission
from tenfold.server.catalog import Catalog
from tenfold.server.metrics import Metrics
from tenfold.server.settings import ServerSettings


@dataclass(frozen=True, slots=True)
class Context:
    """One served model."""

    llm: AsyncLLM
    settings: ServerSettings
    catalog: Catalog
    admission: Admission
    metrics: Metrics

    @classmethod
    def of(cls, llm: AsyncLLM, settings: ServerSettings) -> Context:
        """Raises InvalidRequest for presets that no request could use."""
        name = settings.model_name or llm.model.name
        admission = Admission(settings.max_running, settings.max_waiting)
        return cls(
            llm=llm,
            settings=settings,
            catalog=Catalog(name, llm.context_length, settings),
            admission=admission,
            metrics=Metrics(name, llm.stats, lambda: admission.waiting),
        )
