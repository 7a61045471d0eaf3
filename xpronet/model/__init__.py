"""The network, its losses, decoding and checkpoints."""
