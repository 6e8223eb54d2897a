"""Soundmark: train, measure and serve sound classifiers."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from soundmark.model import Classifier
    from soundmark.published import load
    from soundmark.transform import Embed

__version__ = "0.1.0"
__all__ = ["Classifier", "Embed", "__version__", "load"]


def __getattr__(name: str) -> Any:
    """Import what is asked for when it is asked for, so that `import soundmark` costs nothing."""
    if name == "Classifier":
        from soundmark import model

        return model.Classifier
    if name == "load":
        from soundmark import published

        return published.load
    if name == "Embed":
        from soundmark.transform import Embed

        return Embed
    raise AttributeError(f"module 'soundmark' has no attribute {name!r}")
