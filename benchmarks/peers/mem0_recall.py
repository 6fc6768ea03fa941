"""mem0's side of `x_mem0_recall_at_10`; runs in mem0's own environment, with nothing of tenfold.

python mem0_recall.py FOLDER

FOLDER/job.json says what to remember and to ask, FOLDER/texts.json and FOLDER/vectors.npy have the
vector of every text, so that mem0 searches with the embedder that tenfold searches with.
FOLDER/answers.json gets the ids that each question found, best first. No language model is used
(infer=False), no telemetry, and no network: proxies point at a closed port.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import time
from pathlib import Path

NOWHERE = "http://127.0.0.1:9"


def main(folder: Path) -> None:
    os.environ.update(
        MEM0_TELEMETRY="False",
        MEM0_DIR=str(folder / "mem0"),
        OPENAI_API_KEY="unused",
        HF_HUB_OFFLINE="1",
        HTTP_PROXY=NOWHERE,
        HTTPS_PROXY=NOWHERE,
        http_proxy=NOWHERE,
        https_proxy=NOWHERE,
    )
    logging.disable(logging.INFO)
    import mem0
    import numpy as np

    texts = json.loads((folder / "texts.json").read_text(encoding="utf-8"))
    vectors = np.load(folder / "vectors.npy", allow_pickle=False)
    job = json.loads((folder / "job.json").read_text(encoding="utf-8"))
    place = {text: row for row, text in enumerate(texts)}

    class Given:
        """The vectors that were handed over; a text without one is an error."""

        def embed(self, text: str, memory_action: str | None = None) -> list[float]:
            return vectors[place[text]].tolist()

        def embed_batch(self, texts: list[str], memory_action: str = "add") -> list[list[float]]:
            return [self.embed(text) for text in texts]

    memory = mem0.Memory.from_config(
        {
            "vector_store": {
                "provider": "qdrant",
                "config": {
                    "path": str(folder / "qdrant"),
                    "embedding_model_dims": int(vectors.shape[1]),
                },
            },
            "history_db_path": str(folder / "history.db"),
        }
    )
    memory.embedding_model = Given()
    answers, began = {}, time.process_time()
    done, total = 0, sum(len(c["turns"]) + len(c["questions"]) for c in job["conversations"])
    for conversation in job["conversations"]:
        user, turn_of = conversation["name"], {}
        for turn in conversation["turns"]:
            added = memory.add(turn["text"], user_id=user, infer=False)["results"]
            turn_of[added[0]["id"]] = turn["id"]
        found = [
            memory.search(question, filters={"user_id": user}, top_k=job["k"], threshold=0.0)
            for question in conversation["questions"]
        ]
        answers[user] = [[turn_of[hit["id"]] for hit in one["results"]] for one in found]
        done += len(conversation["turns"]) + len(conversation["questions"])
        print(done / total, flush=True)
    told = {
        "version": mem0.__version__,
        "bm25": bool(memory.vector_store._get_bm25_encoder()),
        "cpu_seconds": time.process_time() - began,
        "answers": answers,
    }
    (folder / "answers.json").write_text(json.dumps(told), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
