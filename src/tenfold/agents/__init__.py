"""What models do with memory: chats that remember."""
