"""Tables of the papers, as they were printed, and which of our metrics and methods correspond to them.

Values are copied digit by digit, percent but for those of data sets; "" is what a paper does not give. Sources: [Z20]
Zhan et al., CVPR 2020; [N21] Nguyen and Todorovic, ICCV 2021; [L20] Ling et al., NeurIPS 2020; [Z24] Zhan et al., CVPR
2024.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class PublishedData:
    """A data set of a published column.

    Args:
        name: the paper's.
        source: a part of the names that sources have here.
        images: how many it has; None where the paper does not say.
        about: whether the paper gives that number roughly; then 1 % more or less is right.

    Example:
        >>> PublishedData("COCOA validation", source="cocoa", images=1323).images
        1323
    """

    name: str
    source: str
    images: int | None
    about: bool = False

    def __str__(self) -> str:
        return self.name if self.images is None else f"{self.name} ({'about ' * self.about}{self.images:,} images)"

    def has(self, images: int) -> bool:
        """Whether a data set of so many images may be this one."""
        return self.images is None or abs(images - self.images) <= (self.images // 100 if self.about else 0)


@dataclass(frozen=True)
class PublishedRow:
    """A row of a table.

    Args:
        label: the paper's words, shortened.
        values: one text a column.
        role: which of our methods stands in this row, e.g. "raw" or "pcnet-m-nog"; "" for none of ours.

    Example:
        >>> PublishedRow("Raw", ("65.47", "87.03"), role="raw").values
        ('65.47', '87.03')
    """

    label: str
    values: tuple[str, ...]
    role: str = ""


@dataclass(frozen=True)
class PaperTable:
    """A published table.

    Args:
        name: what the command line calls it.
        source: tag of the paper and number of the table.
        title: what it measures.
        columns: of the published values.
        rows: in the order of the paper.
        metrics: (section of `EvaluationReport`, metric, header) of our columns.
        data: of the published columns.
        baselines: methods of ours that belong to it without being asked for.
        roles: what the pipelines are here: "plain", "grounding" (without and with the order), "nog" (without), "alone"
            (with occluders given and without), "unaided" (without), "box" (of a user) or "posterior" (choices among
            samples).
        differences: what we do otherwise whatever the data are.
        notes: what else to know.
        stacked: our rows stand below the published ones in the same columns, since those are metrics of several data
            sets.
        needs: an input beyond methods, "" or "detections", or what is described in place of methods: "statistics" of a
            data set, "preferences" of people.

    Example:
        >>> table = PAPER_TABLES["z20-2"]
        >>> table.source, table.columns
        ('[Z20] Table 2', ('COCOA-val', 'KINS-test'))
        >>> {row.label: row.values for row in table.rows}["PCNet-M (OG)"]
        ('81.35', '94.76')
    """

    name: str
    source: str
    title: str
    columns: tuple[str, ...]
    rows: tuple[PublishedRow, ...]
    metrics: tuple[tuple[str, str, str], ...]
    data: tuple[PublishedData, ...]
    baselines: tuple[str, ...] = ()
    roles: str = "plain"
    differences: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    stacked: bool = False
    needs: str = ""

    @property
    def is_precision(self) -> bool:
        """Whether it is a table of AP, which segmenters' results can fill."""
        return self.metrics[:1] == _AP_METRICS[:1]

    @property
    def has_methods(self) -> bool:
        """Whether its rows are methods with metrics; otherwise a `FiguresReport` lays it out."""
        return bool(self.metrics)


COCOA_VAL = PublishedData("COCOA validation", "cocoa", 1323)
COCOA_TEST = PublishedData("COCOA test", "cocoa", 1250)
KINS_TEST = PublishedData("KINS test", "kins", 7517)
KINS_TEST_L20 = PublishedData("KINS test without its first 750 or so images", "kins", 6767, about=True)
COCOA_CLS = PublishedData("COCOA-cls", "cocoa-cls", None)
MP3D = PublishedData("MP3D-Amodal evaluation", "mp3d", 9783)

_POOLED = ("completion", "miou_pooled", "mIoU pooled")
_MEAN = ("completion", "miou_mean", "mIoU mean")
_MEAN_ALL = ("completion", "miou_mean_all", "mIoU mean, all")
_INV_POOLED = ("completion", "inv_miou_pooled", "inv pooled")
_INV_MEAN = ("completion", "inv_miou_mean", "inv mean")
_ORDER = ("order", "order_accuracy", "O-Acc")
_ORDER_ALL = ("order", "order_accuracy_all", "all pairs")
_MIOU_NOTE = (
    "The papers say mIoU is the mean over objects, the published code of [Z20] pools all objects; both are here, the "
    "mean over the objects with a hidden part."
)
_ROLES_NOTE = (
    "What a pipeline was trained with cannot be read off it: `--methods ROLE=PIPELINE` says in which of these rows it "
    "stands."
)


def _rows(text: str) -> tuple[PublishedRow, ...]:
    """Rows of lines "label | role | value value ..." with "-" for what is not given."""
    rows = []
    for line in text.strip().splitlines():
        label, role, values = (part.strip() for part in line.split("|"))
        rows.append(PublishedRow(label, tuple("" if value == "-" else value for value in values.split()), role))
    return tuple(rows)


_AP_METRICS = (
    ("completion", "ap", "AP"),
    ("completion", "ap50", "AP50"),
    ("completion", "ap75", "AP75"),
    ("completion", "ap_small", "APS"),
    ("completion", "ap_medium", "APM"),
    ("completion", "ap_large", "APL"),
    ("completion", "ar1", "AR1"),
    ("completion", "ar10", "AR10"),
    ("completion", "ar", "AR100"),
    ("completion", "ar_small", "ARS"),
    ("completion", "ar_medium", "ARM"),
    ("completion", "ar_large", "ARL"),
)
_Z20_1 = PaperTable(
    "z20-1",
    "[Z20] Table 1",
    "Ordering: pair-wise accuracy on occluded pairs",
    ("COCOA-val", "KINS-test"),
    _rows("""
        OrderNet (M), supervised | order-net-masks | 81.7 87.5
        OrderNet (M+I), supervised | order-net-image | 88.3 94.1
        Area, smaller in front | area-smaller | 62.4 -
        Area, larger in front | area-larger | - 77.4
        Y-axis | y-axis | 58.7 81.9
        Convex | hull | 76.0 76.3
        PCNet-M | pcnet-m | 87.1 92.5
    """),
    (_ORDER, _ORDER_ALL),
    (COCOA_VAL, KINS_TEST),
    baselines=("area-smaller", "area-larger", "y-axis", "hull"),
    notes=("The paper takes the smaller object as the one in front for COCOA and the larger one for KINS.",),
)
_Z20_2 = PaperTable(
    "z20-2",
    "[Z20] Table 2",
    "Amodal completion from true modal masks: mIoU",
    ("COCOA-val", "KINS-test"),
    _rows("""
        Supervised | supervised | 82.53 94.81
        Raw | raw | 65.47 87.03
        ConvexR | convex-refined | 74.43 90.75
        PCNet-M (NOG) | pcnet-m-nog | 76.91 93.42
        PCNet-M (OG) | pcnet-m | 81.35 94.76
    """),
    (_POOLED, _MEAN, _INV_POOLED, _INV_MEAN),
    (COCOA_VAL, KINS_TEST),
    baselines=("raw", "convex-refined"),
    roles="grounding",
    notes=(_MIOU_NOTE,),
)
_Z20_3 = PaperTable(
    "z20-3",
    "[Z20] Table 3",
    "Amodal completion from predicted modal masks: mIoU",
    ("KINS-test",),
    _rows("""
        Supervised | supervised | 87.29
        Raw | raw | 82.05
        ConvexR | convex-refined | 84.12
        PCNet-M (NOG) | pcnet-m-nog | 85.39
        PCNet-M (OG) | pcnet-m | 86.26
    """),
    (
        _POOLED,
        _MEAN,
        ("completion", "matched", "matched"),
        ("completion", "miou_pooled_all", "pooled, unmatched empty"),
    ),
    (KINS_TEST,),
    baselines=("raw", "convex-refined"),
    roles="grounding",
    differences=(
        "Predicted masks are matched to the objects by the IoU of their boxes, one to one; the paper's network was "
        "given the true box of each object, so that every object has a mask. Objects without one are left out of the "
        "first two columns and have an empty mask in the last.",
    ),
    notes=(_MIOU_NOTE, "The paper's predicted modal masks have an mAP of 52.7."),
    needs="detections",
)
_Z20_4 = PaperTable(
    "z20-4",
    "[Z20] Table 4",
    "Amodal instance segmentation by the source of the training masks: mAP",
    ("KINS-test",),
    _rows("""
        Ground truth | gt | 29.3
        Raw | raw | 22.7
        Convex | convex | 22.2
        ConvexR | convex-refined | 25.9
        PCNet-M | pcnet-m | 29.3
    """),
    _AP_METRICS[:3],
    (KINS_TEST,),
    baselines=("raw", "convex", "convex-refined"),
)
_N21_1 = PaperTable(
    "n21-1",
    "[N21] Table 1",
    "Ordering and completion",
    (
        "COCOA-val O-Acc",
        "mIoU",
        "COCOA-test O-Acc",
        "mIoU",
        "KINS-test O-Acc",
        "mIoU",
        "inv",
    ),
    _rows("""
        Amodal-VAE (reported) | amodal-vae | - - - - - 94.68 62.85
        PCNet-M (reported) | | 87.10 81.35 - - 92.50 94.76 -
        PCNet-M (reproduced) | pcnet-m | 85.75 80.73 86.73 86.63 91.73 94.52 59.24
        Boundary -> PCNet-M | pcnet-m-boundary | 89.01 82.85 89.22 88.67 92.26 94.65 62.77
        Uncertainty -> PCNet-M | pcnet-m-uncertainty | 88.60 82.49 88.40 88.15 92.08 94.61 62.00
        uBCE -> ASBU | asbu-ubce | 89.23 83.18 89.32 88.10 92.15 94.34 63.41
        ASBU | asbu | 90.33 84.22 90.77 89.87 92.65 94.83 64.41
    """),
    (_ORDER, _POOLED, _MEAN, _INV_POOLED, _INV_MEAN),
    (COCOA_VAL, COCOA_TEST, KINS_TEST),
    notes=(
        _MIOU_NOTE,
        _ROLES_NOTE,
        "The paper's accuracy is over pairs of adjacent objects; ours over the related ones.",
    ),
)
_N21_2 = PaperTable(
    "n21-2",
    "[N21] Table 2",
    "Amodal instance segmentation by the source of the training masks, in full COCO metrics",
    tuple(header for _, _, header in _AP_METRICS),
    _rows("""
        COCOA-val, GT | | 22.2 44.8 20.0 13.8 20.6 24.3 6.0 27.4 39.3 33.4 39.4 40.0
        COCOA-val, PCNet-M | | 21.0 43.4 18.5 13.7 19.5 22.9 5.9 26.6 37.9 33.8 38.6 38.0
        COCOA-val, ASBU | | 22.2 44.5 20.0 12.5 19.8 24.6 6.1 27.4 38.9 33.1 39.1 39.5
        COCOA-test, GT | | 23.9 48.4 21.5 14.1 23.0 25.8 6.4 28.7 40.9 31.7 41.6 41.5
        COCOA-test, PCNet-M | | 22.6 46.8 19.7 13.7 22.0 24.2 6.3 27.7 39.2 32.3 40.0 39.6
        COCOA-test, ASBU | | 23.8 47.9 21.2 13.8 22.4 25.6 6.4 28.6 40.5 32.9 40.9 41.1
        KINS-test, GT | | 30.8 53.9 31.6 15.1 40.4 56.7 18.9 38.3 40.4 24.1 51.6 65.6
        KINS-test, PCNet-M | | 29.1 51.8 29.6 14.1 38.1 55.7 18.3 37.1 38.9 23.0 49.4 65.2
        KINS-test, ASBU | | 29.3 52.1 29.7 14.2 38.2 56.0 18.4 37.0 38.8 23.1 49.3 64.9
    """),
    _AP_METRICS,
    (COCOA_VAL, COCOA_TEST, KINS_TEST),
    stacked=True,
)
_L20_1 = PaperTable(
    "l20-1",
    "[L20] Table 1",
    "Amodal completion, no occluder known",
    ("KINS mIoU", "KINS inv"),
    _rows("""
        Instance mask | raw | 87.03 0
        Nearest-neighbour mask | nearest-mask | 93.71 54.97
        De-occlusion (NOG) | pcnet-m-nog | 94.04 57.19
        Amodal-VAE | amodal-vae | 94.68 62.85
        RGB-Amodal-VAE | rgb-amodal-vae | 94.53 61.97
        Amodal-VAE + true box | amodal-vae-box | 97.64 82.30
    """),
    (_POOLED, _MEAN, _INV_POOLED, _INV_MEAN),
    (KINS_TEST_L20,),
    baselines=("raw",),
    roles="box",
    notes=(_MIOU_NOTE, "The paper keeps the first 750 or so images of KINS test for validation."),
)
_L20_2 = PaperTable(
    "l20-2",
    "[L20] Table 2",
    "Amodal-VAE without parts of its training",
    ("KINS mIoU", "KINS inv"),
    _rows("""
        Amodal-VAE | amodal-vae | 94.68 62.85
        Without full-mask training | amodal-vae-no-full | 94.28 58.92
        Without simulated training | amodal-vae-no-simulated | 83.30 35.82
        Without likelihood training | amodal-vae-no-likelihood | 94.04 57.04
        Without the L2 loss of latent codes | amodal-vae-no-latent | 94.02 56.90
        Without classes | amodal-vae-no-classes | 93.56 53.03
    """),
    (_POOLED, _MEAN, _INV_POOLED, _INV_MEAN),
    (KINS_TEST_L20,),
    notes=(_MIOU_NOTE, _ROLES_NOTE),
)
_L20_4 = PaperTable(
    "l20-4",
    "[L20] Table 4",
    "Samples of the posterior: the best of 20 by visible part and by truth",
    ("KINS mIoU", "KINS inv"),
    _rows("""
        Amodal-VAE | amodal-vae | 94.68 62.85
        Best by visible mask | amodal-vae-visible | 94.71 62.98
        Best by amodal truth | amodal-vae-truth | 95.82 69.96
    """),
    (_POOLED, _MEAN, _INV_POOLED, _INV_MEAN),
    (KINS_TEST_L20,),
    roles="posterior",
    notes=(_MIOU_NOTE,),
)
_Z20_12 = PaperTable(
    "z20-fig12",
    "[Z20] Figure 12",
    "Completion by the hidden share of the object: pooled mIoU",
    (),
    (),
    (_POOLED,),
    (KINS_TEST,),
    baselines=("raw", "convex-refined"),
    roles="grounding",
    notes=("The paper gives its curves as a drawing alone, without numbers.", _MIOU_NOTE),
)
_Z24_1 = PaperTable(
    "z24-1",
    "[Z24] Table 1",
    "Amodal data sets",
    ("amodal GT", "image type", "# categories", "# images", "type"),
    _rows("""
        COCOA | | ✗ Real Multiple 5,073 General
        COCOA-cls | | ✗ Real 80 3,499 General
        KINS | | ✗ Real 8 14,991 Vehicle
        DYCE | | ✓ Synthetic 79 5,500 Indoor
        OLMD | | ✓ Synthetic 40 13,000 Indoor
        CSD | | ✓ Synthetic 40 11,434 Indoor
        D2SA | | ✓ Synthetic 60 5,600 Industrial
        KITTI-360-APS | | ✗ Real 17 61,168 Vehicle
        BDD100K-APS | | ✗ Real 16 202 Vehicle
        WALT | | ✓ Real 2 60,000 Vehicle
        MUVA | | ✓ Synthetic 20 26,406 Shopping
        MP3D-Amodal | | ✓ Real 427(40) 10,883 Indoor
    """),
    (),
    (),
    notes=(
        "Amodal GT: ✓ where whole masks are measured, ✗ where people guessed them. Annotations say neither this nor "
        "what kind of images they are of.",
        "Categories: distinct names, and in brackets distinct category ids where there are fewer.",
    ),
    needs="statistics",
)
_Z24_2 = PaperTable(
    "z24-2",
    "[Z24] Table 2",
    "MP3D-Amodal",
    ("# scenes", "# images", "# instances", "# MatterPort categories", "# semantic labels"),
    _rows("""
        Training | | 4 1,100 1,283 35 130
        Evaluation | | 86 9,783 11,441 40 385
        Total | | 90 10,883 12,724 40 427
    """),
    (),
    (),
    notes=(
        "Instances: objects with a known whole mask. Categories: distinct ids; labels: distinct names. Scenes: folders "
        "of the photos, or what `--scene` finds in their names.",
    ),
    needs="statistics",
)
_Z24_MIOU_NOTE = (
    "The paper says mIoU is the mean over all objects; the published code of [Z20] pools them: both are here."
)
_Z24_METRICS = (_POOLED, _MEAN_ALL, _INV_POOLED, _INV_MEAN)
_Z24_3 = PaperTable(
    "z24-3",
    "[Z24] Table 3",
    "OccAmodal with and without occluder predictor and final skip connection",
    ("COCOA mIoU", "COCOA inv"),
    _rows("""
        A: neither (ASBU) | asbu | 69.9 0.006
        B: occluder predictor | occamodal-no-skip | 88.4 64.4
        C: occluder predictor, final skip | occamodal | 89.4 66.2
    """),
    _Z24_METRICS,
    (COCOA_TEST,),
    roles="unaided",
    notes=(_Z24_MIOU_NOTE,),
)
_Z24_4 = PaperTable(
    "z24-4",
    "[Z24] Table 4",
    "SDAmodal with and without Stable Diffusion, its features at several scales and the final skip connection",
    ("COCOA mIoU", "COCOA inv"),
    _rows("""
        A: none of them (Deocclusion, single stage) | single-stage | 88.0 63.8
        B: Stable Diffusion | sdamodal-one-scale-no-skip | 89.4 69.2
        C: Stable Diffusion, scales | sdamodal-no-skip | 89.6 69.8
        D: final skip | single-stage-final-skip | 89.2 66.4
        E: Stable Diffusion, final skip | sdamodal-one-scale | 90.5 71.1
        F: Stable Diffusion, scales, final skip | sdamodal | 90.7 71.6
    """),
    _Z24_METRICS,
    (COCOA_TEST,),
    roles="unaided",
    notes=(
        _Z24_MIOU_NOTE,
        "Row A is [Z20]'s network, whose U-Net has five levels; one of six levels with all skips stands in row D when "
        "it is named so (`single-stage-final-skip=FOLDER`).",
    ),
)
_Z24_5 = PaperTable(
    "z24-5",
    "[Z24] Table 5",
    "Completion with and without the occluder given",
    ("COCOA mIoU", "COCOA inv", "MP3D mIoU", "MP3D inv"),
    _rows("""
        Deocclusion (two stage), occluder given | pcnet-m | 88.2 65.3 - -
        ASBU (reproduced), occluder given | asbu | 88.9 65.3 - -
        ASBU (reported), occluder given | | 89.8 - - -
        Deocclusion (two stage) | pcnet-m-alone | 69.9 0.006 64.4 0.004
        ASBU | asbu-alone | 69.9 0.006 64.4 0.004
        Deocclusion (single stage) | single-stage-alone | 88.0 63.8 72.4 28.0
        OccAmodal | occamodal-alone | 89.4 66.2 72.9 27.5
        SDAmodal | sdamodal-alone | 90.7 71.6 76.4 38.5
    """),
    _Z24_METRICS,
    (COCOA_TEST, MP3D),
    roles="alone",
    differences=(
        "Where the occluder is given, ours gets the modal masks of all objects and finds out which of them is in "
        "front; the paper gives the mask of the occluder.",
    ),
    notes=(_Z24_MIOU_NOTE,),
)
_Z24_6 = PaperTable(
    "z24-6",
    "[Z24] Table 6",
    "Completion by the training data",
    ("COCOA mIoU", "COCOA inv", "MP3D mIoU", "MP3D inv"),
    _rows("""
        OccAmodal, COCOA | occamodal | 89.4 66.2 72.9 27.5
        OccAmodal, COCOA and MP3D-Amodal | occamodal-mp3d | 89.4 66.4 73.8 29.6
        SDAmodal, COCOA | sdamodal | 90.7 71.6 76.4 38.5
        SDAmodal, COCOA and MP3D-Amodal | sdamodal-mp3d | 90.7 71.6 81.8 53.7
    """),
    _Z24_METRICS,
    (COCOA_TEST, MP3D),
    roles="unaided",
    notes=(_Z24_MIOU_NOTE, _ROLES_NOTE),
)
_Z24_7 = PaperTable(
    "z24-7",
    "[Z24] Table 7",
    "Completion on COCOA-cls, beside amodal instance segmentation",
    ("COCOA-cls mIoU", "COCOA-cls inv"),
    _rows("""
        A3D | | 67.4 -
        GIN | | 72.4 -
        AISformer | | 72.7 13.8
        VRSP | | 79.0 22.9
        C2F-Seg | | 87.1 36.6
        OccAmodal | occamodal | 92.0 47.8
        SDAmodal | sdamodal | 93.5 59.6
    """),
    _Z24_METRICS,
    (COCOA_CLS,),
    roles="unaided",
    notes=(
        _Z24_MIOU_NOTE,
        "The paper does not say which images of COCOA-cls it tests on. Its first five rows are of networks that also "
        "find the objects, as their papers report them; the others are given the visible masks.",
    ),
)
_L20_5 = PaperTable(
    "l20-5",
    "[L20] Table 5",
    "Trained on Cityscapes, tested on KINS",
    ("KINS mIoU", "KINS inv"),
    _rows("""
        Amodal-VAE | amodal-vae | 93.72 56.18
        De-occlusion | pcnet-m-nog | 93.19 48.23
    """),
    (_POOLED, _MEAN, _INV_POOLED, _INV_MEAN),
    (KINS_TEST_L20,),
    roles="nog",
    notes=(
        _MIOU_NOTE,
        "De-occlusion is taken to be without the order, as in Table 1.",
        "The paper has one class for buses and cars, and one for motorcycles and bicycles: `dataset convert "
        "--category-ids` writes data so, to train on and to test on.",
    ),
)
_L20_6 = PaperTable(
    "l20-6",
    "[L20] Table 6",
    "What people prefer, percent of the answers",
    ("Amodal-VAE with true box", "ground truth", "no preference"),
    _rows("""
        Preferred | | 46.68 39.50 13.8
    """),
    (),
    (),
    notes=("The paper asked about 3,260 objects of KINS test.",),
    needs="preferences",
)

PAPER_TABLES: dict[str, PaperTable] = {
    table.name: table
    for table in (
        *(_Z20_1, _Z20_2, _Z20_3, _Z20_4, _Z20_12, _N21_1, _N21_2, _L20_1, _L20_2, _L20_4, _L20_5, _L20_6),
        *(_Z24_1, _Z24_2, _Z24_3, _Z24_4, _Z24_5, _Z24_6, _Z24_7),
    )
}
"""Published tables by their names on the command line."""

OCCLUSION_BINS: Sequence[float] = tuple(step / 10 for step in range(11))
"""Edges of the bins of figure 12."""
