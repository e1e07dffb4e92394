"""What is wrong with a mixer, in under a minute: each check looks for one mistake and says where it shows first."""

from gdnbench.check.run import CHECKS, check

__all__ = ["CHECKS", "check"]
