"""Parallax: an async reverse proxy for testing machine-learning models in production."""

__version__ = "0.1.0"
