"""Preference training that says why chosen log-probs fall (paper 2410.13828).

`losses` are pure functions of log-probs; `entanglement` says what a step does to the chosen and the
rejected answer; `monitor` measures it during training, with `ghost`, `split` or `sketch`.
"""
