"""Which mixer stands in which block: one for all, or a hybrid's pattern."""

from gdnbench.errors import GdnbenchError
from gdnbench.models import registry
from gdnbench.models.config import ModelConfig


def layer_mixers(config: ModelConfig) -> list[str]:
    """Return the mixer's name for every block, first to last, after native depth factors."""
    if config.arch != "hybrid":
        planned = [config.arch] * config.depth
    elif ":" in config.pattern:
        planned = _by_share(config.pattern, config.depth)
    else:
        cycle = config.pattern.split()
        planned = [cycle[layer % len(cycle)] for layer in range(config.depth)]
    if config.block == "controlled":
        return [name for name in planned if registry.find(name)]
    return [name for name in planned for _ in range(registry.find(name).native_depth)]


def _by_share(pattern: str, depth: int) -> list[str]:
    """Expand ``"gdn:0.8 transformer:0.2"``: each share ends at the nearest whole block."""
    names: list[str] = []
    total = 0.0
    for entry in pattern.split():
        name, _, share = entry.partition(":")
        try:
            total += float(share)
        except ValueError:
            raise GdnbenchError(f"model.pattern: {entry!r} is not name:share, such as gdn:0.8") from None
        names += [name] * (round(total * depth) - len(names))
    if abs(total - 1) > 1e-6:
        raise GdnbenchError(f"model.pattern: the shares of {pattern!r} add up to {total:g}, not 1")
    return names
