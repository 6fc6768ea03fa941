"""Search: strategies over branches, the Branches facade and the LLM front."""
