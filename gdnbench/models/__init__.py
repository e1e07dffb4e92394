"""One decoder, mixers behind one interface, and parametrizations as data."""

from gdnbench.models.config import ModelConfig
from gdnbench.models.decoder import Decoder, build_decoder
from gdnbench.models.mixer import Mixer, State
from gdnbench.models.parametrization import Parametrization

__all__ = ["Decoder", "Mixer", "ModelConfig", "Parametrization", "State", "build_decoder"]
