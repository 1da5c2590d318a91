"""What the networks are trained with: losses of masks, of colours and of spaces of shapes."""

from .content import ContentLossWeights, composite, content_losses, discriminator_loss, generator_loss, total_variation
from .masks import (
    bernoulli_nll,
    binary_completion_loss,
    completion_loss,
    decoupled_loss,
    occluder_loss,
    placed_nll,
    uncertainty_weighted_loss,
)
from .perceptual import VGGFeatures, gram_matrix, load_vgg_features, perceptual_losses
from .shapes import ShapeWeights, complete_loss, expected_distance, partial_loss, place_in_frame, simulated_loss

__all__ = [
    "ContentLossWeights",
    "ShapeWeights",
    "VGGFeatures",
    "bernoulli_nll",
    "binary_completion_loss",
    "complete_loss",
    "completion_loss",
    "composite",
    "content_losses",
    "decoupled_loss",
    "discriminator_loss",
    "expected_distance",
    "generator_loss",
    "gram_matrix",
    "load_vgg_features",
    "occluder_loss",
    "partial_loss",
    "perceptual_losses",
    "place_in_frame",
    "placed_nll",
    "simulated_loss",
    "total_variation",
    "uncertainty_weighted_loss",
]
