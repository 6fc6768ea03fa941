"""Model families: specification, checkpoints, tokenizers, chat templates, reference forward."""
