"""Networks that look at the photo alone: the features of EfficientNet-lite0, and what a click on them means."""

__all__ = ["click_segmenter", "efficientnet_lite"]
