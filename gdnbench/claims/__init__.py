"""The claims under test: what the sources say, word for value, and the cards that say how a preset tests them."""

from gdnbench.claims.cards import ClaimCard
from gdnbench.claims.catalogue import Claim, catalogue

__all__ = ["Claim", "ClaimCard", "catalogue"]
