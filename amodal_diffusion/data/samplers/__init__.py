"""What training draws from: objects, crops and shapes, each batch a function of the seed, the step and the process."""

from .instances import InstanceBatch, InstanceSampler
from .photo_boundaries import PhotoBoundaries, PhotoOcclusionBatch, boundary_synthesis
from .photo_crops import ObjectCropper, PhotoCrops, image_crops
from .photo_objects import ObjectFilter, ObjectSampler, Photo, PhotoError, PhotoObjects
from .prefetch import Prefetcher
from .shape_sources import FRAME, PartialShapes, ShapeSources, collect_shapes, order_by_pipeline
from .shapes import PartialBatch, PartialSampler, ShapeBatch, ShapeSampler
from .splits import CountedRows, split_bank, split_photos, split_stream

__all__ = [
    "FRAME",
    "CountedRows",
    "InstanceBatch",
    "InstanceSampler",
    "ObjectCropper",
    "ObjectFilter",
    "ObjectSampler",
    "PartialBatch",
    "PartialSampler",
    "PartialShapes",
    "Photo",
    "PhotoBoundaries",
    "PhotoCrops",
    "PhotoError",
    "PhotoObjects",
    "PhotoOcclusionBatch",
    "Prefetcher",
    "ShapeBatch",
    "ShapeSampler",
    "ShapeSources",
    "boundary_synthesis",
    "collect_shapes",
    "image_crops",
    "order_by_pipeline",
    "split_bank",
    "split_photos",
    "split_stream",
]
