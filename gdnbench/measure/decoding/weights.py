"""Models with random weights, drawn on the device: for speed alone, so that a model of 1.3B is there in a second."""

import hashlib

import torch
from torch import Tensor

from gdnbench.models.config import ModelConfig
from gdnbench.models.decoder import Decoder, on_meta
from gdnbench.models.roles import Role, multipliers, parameters_with_roles


@torch.no_grad()
def random_decoder(config: ModelConfig, *, device: str, seed: int) -> Decoder:
    """Return a decoder in float32 as a table starts it at its base width, but for matrices that start at zero.

    Those are drawn with a standard deviation of ``fan_in^-1/2``: at zero, a layer would put out nothing, and an error
    in it would not be seen. Equal seeds draw equally on one kind of device, whatever the backends.
    """
    model = on_meta(config).to_empty(device=device)
    for name, module, local, role in parameters_with_roles(model):
        key = hashlib.sha256(f"{seed}:{name}".encode()).digest()
        getattr(module, local).copy_(_drawn(getattr(module, local), role, int.from_bytes(key[:7], "little")))
    for _, site in multipliers(model):
        site.value = site.base(site.role.fan_in)
    return model


def _drawn(parameter: Tensor, role: Role, seed: int) -> Tensor:
    assert role.init is not None
    if role.init.std is None:
        sample = role.init.sample(tuple(parameter.shape), torch.Generator().manual_seed(seed))
        if parameter.ndim < 2 or bool(sample.any()):
            return sample
    std = role.fan_in**-0.5 if role.init.std is None else role.init.std
    generator = torch.Generator(parameter.device).manual_seed(seed)
    return torch.randn(parameter.shape, generator=generator, device=parameter.device) * std
