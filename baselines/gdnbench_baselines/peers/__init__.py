"""Other libraries' models of the baselines, one file an architecture: what `gdnbench parity` compares with.

A file defines ``PEERS``, a tuple of `gdnbench.measure.parity.peer.Peer`.
"""

# flash-linear-attention in float32: its chunked RWKV-7 is off by 3e-5 from float64 (gradients 1e-4), and on Hopper GPUs
# it leaves gradients of GDN to TileLang, which multiplies in TF32, of 10 bits.
FLA_TOLERANCES = {"float32": (1e-4, 2e-3)}
