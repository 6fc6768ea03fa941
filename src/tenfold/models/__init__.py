"""Model families: decoder specification, checkpoints, tokenizers, chat templates, reference forward."""
