"""GDN with negative eigenvalues (Grazzi et al., arXiv 2411.12537): writing strengths up to 2, so that memory can flip.

A token's transition ``alpha (I - beta k k^T)`` has the eigenvalue ``alpha (1 - beta)`` along its key, which is negative
for a beta above 1: what parity and permutations need of a linear recurrence. An example of a variant of a mixer that is
there already: options of its own, and everything else inherited.
"""

from dataclasses import dataclass
from typing import Any

from gdnbench_baselines.gdn import GatedDeltaNet
from gdnbench_baselines.gdn import Options as GdnOptions

from gdnbench.models import ModelConfig


@dataclass(frozen=True, kw_only=True)
class Options(GdnOptions):
    """Options of GDN, with strengths that reach 2 unless told otherwise."""

    negative_eigenvalues: bool = True


class NegativeGatedDeltaNet(GatedDeltaNet):
    """GDN whose beta is ``2 sigmoid(z)``."""

    Options = Options

    @classmethod
    def options(cls, config: ModelConfig, arch: str, expected: type[Any]) -> Any:
        """Read ``model.options.gdn_negative``, where GDN reads its own name's."""
        return super().options(config, "gdn_negative", Options)
