"""Pipelines that complete masks, and the contract that they share."""

__all__ = [
    "amodal_vae",
    "asbu",
    "dual_completion",
    "mask_pipeline",
    "occamodal",
    "pcnet_mask",
    "photo_pcnet_mask",
    "thresholds",
]
