"""`--reward` with a model: found by name or folder, refused at once when it scores nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from tenfold.cli.arguments import add_reward
from tenfold.errors import CheckpointError, InvalidRequest
from tenfold.registry import Registry
from tenfold.rewards.base import REWARDS, Reward


@pytest.fixture
def rewards() -> Registry[Reward]:
    return REWARDS.copy()


def test_known_and_unknown_names_are_left_to_be_looked_up(rewards: Registry[Reward]) -> None:
    before = list(rewards)
    for text in ("facts", "logprob", "no-such-thing", None):
        add_reward(rewards, text)
    assert list(rewards) == before


def test_a_language_model_is_refused_before_any_request(rewards: Registry[Reward]) -> None:
    with pytest.raises(InvalidRequest, match="no classification head"):
        add_reward(rewards, "mine=concierge")


def test_a_folder_that_is_no_model_is_refused(rewards: Registry[Reward], tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"config\.json"):
        add_reward(rewards, str(tmp_path))


def test_what_is_neither_folder_nor_function_says_which_forms_there_are(
    rewards: Registry[Reward],
) -> None:
    with pytest.raises(InvalidRequest, match="module:function"):
        add_reward(rewards, "mine=nothing")
