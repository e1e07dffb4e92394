"""Sequence-mixing operations, each with an exact recurrent definition and faster forms of it.

One folder an operation: ``api.py`` holds arguments, checks and shapes, ``impl/`` one file a backend.
This package imports nothing of the suite; it needs PyTorch only, and each backend what it names.

Legend of shapes, used throughout: B batch, T time, H query/key heads, HV value heads (a multiple of H),
K key head dim, V value head dim, C chunk size, N chunks.
"""
