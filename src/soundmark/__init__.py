"""Soundmark: train, measure and serve sound classifiers."""

__version__ = "0.1.0"
