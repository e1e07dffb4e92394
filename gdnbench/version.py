"""The version of the suite, read by the package build and written into every record."""

__version__ = "0.1.0"
