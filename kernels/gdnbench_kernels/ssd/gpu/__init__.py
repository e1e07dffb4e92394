"""Mamba-2's SSD on a GPU: the chunked kernels of the gated delta rule without the delta.

With ``q = c``, ``k = b``, ``v = x``, ``beta = dt`` the recurrence is that of `gated_delta.gpu` with nothing recalled:
``T`` is the identity, so that ``Delta = beta v`` is known before the state is. Chunk by chunk (``C = 64`` tokens),

    O  = read * (q S) + P Delta              read = e = exp(G),  P = tril((q_i . k_j) D_ij)
    S' = total * S + k^T (write * Delta)     write = exp(G_last - G),  total = exp(G_last)

and backward, from the last chunk to the first with ``dS`` the gradient of ``S'``,

    dDelta = P^T dO + write * (k dS)
    dS    <- total * dS + q^T (read * dO)

`prepare`, `scan` and `reverse` are those of `gated_delta.gpu`, called without an inverse; `gradients` is a kernel of
its own, because the heads of a group share q and k here (often all heads do): what they add to dq and dk is summed
where it arises, in registers, and no gradient by head ever exists. So too `prepare` makes ``q k^T`` once for the heads
of a group. The forward pass keeps nothing but its arguments: P is made again, which costs less than keeping it.

Work and least bytes are those of `gdnbench.measure.kernels.floors.ssd`. What crosses memory beyond them, in numbers of
bfloat16 a token and head (K = 128, V = 64; x is 64 of them):

    forward    prepare P 64, rows 10 | scan P 64, rows 10; x 64 -> o 64                                          276
    backward   prepare P 64, rows 10 | scan x 64, rows 10 -> states 128 | reverse dO 64, P 64, rows 10 ->
               dstates 128, dDelta 64 | gradients dO 64, x 64, dDelta 64, both states 256, rows 10 -> dx 64,
               dg and ddt 4                                                                                     1132

At 32 x 2048 tokens and 24 heads of one group that is 0.87 and 3.56 GB: 0.20 and 0.84 ms at 4244 GB/s, where the floors
are 0.10 (bytes) and 0.22 ms (products).
"""
