"""Networks that look at the photo alone: EfficientNet-lite0 and ResNets, and what a click on their features means."""

__all__ = ["click_segmenter", "efficientnet_lite", "resnet"]
