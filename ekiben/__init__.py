"""Ekiben: take a trained model to production on BentoML."""

__version__ = "0.1.0"
