"""The gradient of the loss by every parameter, against finite differences in float64."""

import pytest
import torch
from torch.nn import functional as F

from gdnbench.models import registry


@pytest.mark.parametrize("arch", registry.names())
@pytest.mark.parametrize("block", ["controlled", "native"])
def test_gradient_of_every_parameter(arch, block, tiny_decoder, tiny_tokens):
    # Two layers, for what RWKV-7 hands from the first to the others; the untied head is a parameter of its own.
    model = tiny_decoder(arch, block=block, tied=block == "native", width=16)
    tokens = tiny_tokens(2, 8)

    def loss():
        return F.cross_entropy(model(tokens[:, :-1])[0].flatten(0, 1), tokens[:, 1:].flatten())

    parameters = dict(model.named_parameters())
    gradients = torch.autograd.grad(loss(), list(parameters.values()))
    rng = torch.Generator().manual_seed(2)
    for (name, parameter), gradient in zip(parameters.items(), gradients, strict=True):
        # One random direction tests all entries at once; the error of the central difference is of order step^2.
        direction = torch.randn(parameter.shape, generator=rng, dtype=torch.float64)
        with torch.no_grad():
            values = []
            for step in (1e-6, -1e-6):
                parameter += step * direction
                values.append(loss().item())
                parameter -= step * direction
        slope = (values[0] - values[1]) / 2e-6
        assert slope == pytest.approx((gradient * direction).sum().item(), rel=1e-5, abs=1e-8), name
        assert gradient.abs().max() > 0, f"{name}: the loss does not depend on it"
