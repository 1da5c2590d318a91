"""Networks that look at the photo alone: EfficientNet-lite0 and ResNets, and networks on their features."""

__all__ = ["click_segmenter", "efficientnet_lite", "resnet", "thing_net"]
