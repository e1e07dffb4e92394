"""Parity: a decoder of ours with a peer's weights computes what the peer computes."""
