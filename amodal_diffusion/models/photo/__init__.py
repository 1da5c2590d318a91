"""Networks that look at the photo alone: EfficientNet-lite0 and ResNets, and what a click or a thing is for them."""

__all__ = ["click_segmenter", "efficientnet_lite", "resnet", "thing_net"]
