"""Medical sources in, a proven and served domain language model out."""

__version__ = "0.1.0"
