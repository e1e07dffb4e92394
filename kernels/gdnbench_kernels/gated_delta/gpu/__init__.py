"""The gated delta rule on a GPU: chunked forward and backward, and the decode step.

A sequence is cut into chunks of ``C = 64`` tokens. With ``G`` the cumulative log decay in a chunk, ``e = exp(G)``,
``D_ij = exp(G_i - G_j)`` for ``i >= j``, ``S [K, V]`` the state at the chunk's start, and unit factors ``rq, rk`` that
normalize the rows of q and k (1 where they are given normalized), the recurrence (Gated Delta Networks, eq. 10 and
section 3.3) is, chunk by chunk,

    X     = beta * v - recall * (k S)        recall = beta * e * rk
    Delta = T X                              T = (I + A)^-1,  A = tril(beta_i rk_i rk_j (k_i . k_j) D_ij, -1)
    O     = read * (q S) + P Delta           read = scale * e * rq,  P = scale * tril(rq_i rk_j (q_i . k_j) D_ij)
    S'    = total * S + k^T (write * Delta)  write = exp(G_last - G) * rk,  total = exp(G_last)

and its gradient, from the last chunk to the first with ``dS`` that of ``S'``,

    dDelta = P^T dO + write * (k dS)
    dX     = T^T dDelta
    dS    <- total * dS + q^T (read * dO) - k^T (recall * dX)

Called without an inverse, `prepare`, `scan` and `reverse` leave out the delta: T is the identity and nothing is
recalled, which is Mamba-2's recurrence (`ssd.gpu`).

`prepare` computes T, P and the row factors for all chunks at once; `scan` walks the chunks forward (outputs, or the
states and Delta that the backward pass wants), `reverse` backward; `gradients` turns states, Delta, dX and dS into
the gradients of the inputs for all chunks at once (section "solve form" there). `segments` cuts long sequences of few
heads into pieces that run side by side. `hopper` holds the versions in Gluon of those that pay on sm_90.

Tensors between kernels, with ``N`` chunk slots over all sequences (`layout.Layout`):

    inverse    [N, HV, C, C]  T, in the type of q
    attention  [N, HV, C, C]  P, in the type of q
    rows       [N, HV, R, C]  float32 factors by token, in the order of `layout.ROWS`
"""
