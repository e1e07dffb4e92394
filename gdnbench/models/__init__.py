"""One decoder, mixers behind one interface, and parametrizations as data; and what a mixer is written with."""

from gdnbench.models.config import ModelConfig
from gdnbench.models.convolution import ShortConvolution, convolve, empty_tail
from gdnbench.models.decoder import Decoder, build_decoder
from gdnbench.models.mixer import Mixer, Shared, State
from gdnbench.models.norm import RMSNorm, l2_normalize, norm_and_gate
from gdnbench.models.parametrization import Parametrization
from gdnbench.models.projection import Projection, project
from gdnbench.models.roles import Init, Multiplier, Role, constant, curve, declare, normal, uniform
from gdnbench.models.spread import inverse_softplus, log_spread, spread

__all__ = [
    "Decoder",
    "Init",
    "Mixer",
    "ModelConfig",
    "Multiplier",
    "Parametrization",
    "Projection",
    "RMSNorm",
    "Role",
    "Shared",
    "ShortConvolution",
    "State",
    "build_decoder",
    "constant",
    "convolve",
    "curve",
    "declare",
    "empty_tail",
    "inverse_softplus",
    "l2_normalize",
    "log_spread",
    "norm_and_gate",
    "normal",
    "project",
    "spread",
    "uniform",
]
