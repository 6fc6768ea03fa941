"""Rewards: scores for whole and partial answers."""
