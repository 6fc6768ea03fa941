"""Long-term memory (2410.15665): what was said is kept verbatim, found again, and can be erased.

An append-only log of events is the only source of truth. Everything else (text index, vectors,
facts, summaries, learnt weights) is derived from it by versioned functions, carries the ids of the
events it came from, and can be rebuilt or erased with them. No language model is needed.
"""
