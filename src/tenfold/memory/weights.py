"""Weights of the reasons that are shipped: numbers learnt from LoCoMo's labels, none of its text.

Learnt by `python benchmarks/locomo.py FILE --weights` on the five conversations 26, 30, 41, 42 and
43 (997 questions). What is published about them was measured with the conversation in question left
out of the learning. LoCoMo: snap-research/LoCoMo, CC BY-NC 4.0.
"""

LOCOMO: dict[str, float] = {
    "lexical": 1.002,
    "lexical_rank": 0.579,
    "lexical_before": 0.503,
    "lexical_after": 0.335,
    "lexical_far": 1.066,
    "turn": 1.744,
    "window": 0.765,
    "window_rank": 1.289,
    "covered_around": 2.891,
    "author_named": 0.421,
    "another_named": -0.429,
    "asks": -1.342,
    "answers": 0.614,
    "first_person": 0.229,
    "long": 2.115,
    "opening": 0.204,
    "time_asked": 0.905,
    "number_asked": 1.095,
    "in_time": 1.488,
    "soon_after": 2.296,
}
