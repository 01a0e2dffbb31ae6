"""Detection on any image: what is above the noise, of either sign, and lines across it."""

__all__ = ["binned", "footprints", "segments", "spikes", "streaks"]
