"""Compare completion and order methods on images with amodal ground truth.

A method is an object with a `name` that maps a `Sample` to a `Prediction`. The baselines are registered in `METHODS`;
any pipeline that `AmodalPipeline` loads becomes one through `PipelineMethod`. A method may predict masks, an order
matrix and occluders: `evaluate_methods` scores what it gives and leaves the rest out of the tables. With
`occluders_given=False` every object is completed alone, as a user with a photo and one mask has it. A method that looks
at the truth (`uses_truth`) gets a " *" behind its name wherever its figures are, and a footnote in the tables.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
