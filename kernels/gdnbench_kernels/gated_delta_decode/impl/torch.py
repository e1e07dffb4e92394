"""One token has nothing to do at once: the definition, whose operations are whole tensors."""

from gdnbench_kernels.gated_delta_decode.impl.reference import gated_delta_decode as gated_delta_decode
