"""Models for search, trained on graded answers of the concierge: reward model, judge, policy."""
