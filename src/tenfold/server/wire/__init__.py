"""The shapes of requests and answers on the wire; pydantic lives here and nowhere else."""
