"""Preference training that says why chosen log-probs fall (paper 2410.13828).

`losses` are pure functions of log-probs; `entanglement` says what a step does to the chosen and the
rejected answer; `ghost` and `split` measure it during training.
"""
