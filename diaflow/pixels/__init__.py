"""What is done to pixels, with no opinion on stages: background, cosmic rays, convolution, growth of masks."""

__all__ = ["background", "convolution", "cosmicrays", "growth"]
