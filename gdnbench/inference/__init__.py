"""Generation: prompts in parallel, then a token of every row a step, over memory that is set aside before."""

from gdnbench.inference.engine import Engine
from gdnbench.inference.sampling import Greedy, Sampling
from gdnbench.inference.stream import Piece

__all__ = ["Engine", "Greedy", "Piece", "Sampling"]
