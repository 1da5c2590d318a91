"""Data-set cards: counts, licences and citations of a data set in the schema."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from huggingface_hub import DatasetCard, DatasetCardData

if TYPE_CHECKING:
    from datasets import Dataset

COUNT_BATCH = 256


@dataclass(frozen=True)
class SourceNote:
    """What a card says about a source: its title, its licence in words, and its citation in BibTeX.

    Example:
        >>> SOURCE_NOTES["taco"].licence
        'annotations MIT; photos under the licences of their authors'
    """

    title: str
    licence: str
    citation: str


def _bibtex(key: str, author: str, title: str, venue: str, year: int) -> str:
    kind, field = ("article", "journal") if venue.startswith("arXiv") else ("inproceedings", "booktitle")
    fields = {"author": author, "title": title, field: venue, "year": year}
    return f"@{kind}{{{key},\n" + ",\n".join(f"  {name} = {{{value}}}" for name, value in fields.items()) + "\n}"


_COCO_PHOTOS = "photos from Flickr, each under the licence that its author chose"
SOURCE_NOTES = {
    "coco": SourceNote(
        "COCO",
        f"annotations CC BY 4.0; {_COCO_PHOTOS}",
        _bibtex("lin2014coco", "Lin, Tsung-Yi and others", "Microsoft COCO: Common Objects in Context", "ECCV", 2014),
    ),
    "cocoa": SourceNote(
        "COCO Amodal (COCOA)",
        f"annotations CC BY 4.0; {_COCO_PHOTOS}",
        _bibtex("zhu2017semantic", "Zhu, Yan and others", "Semantic Amodal Segmentation", "CVPR", 2017),
    ),
    "lvis": SourceNote(
        "LVIS",
        f"annotations CC BY 4.0; {_COCO_PHOTOS}",
        _bibtex(
            "gupta2019lvis",
            "Gupta, Agrim and Dollár, Piotr and Girshick, Ross",
            "LVIS: A Dataset for Large Vocabulary Instance Segmentation",
            "CVPR",
            2019,
        ),
    ),
    "taco": SourceNote(
        "TACO",
        "annotations MIT; photos under the licences of their authors",
        _bibtex(
            "proenca2020taco",
            "Proença, Pedro F. and Simões, Pedro",
            "TACO: Trash Annotations in Context for Litter Detection",
            "arXiv:2003.06975",
            2020,
        ),
    ),
    "kins": SourceNote(
        "KINS",
        "see the authors' terms; photos of KITTI for non-commercial use (CC BY-NC-SA 3.0)",
        _bibtex("qi2019amodal", "Qi, Lu and others", "Amodal Instance Segmentation with KINS Dataset", "CVPR", 2019),
    ),
    "cocoa-cls": SourceNote(
        "COCOA-cls",
        f"see the authors' terms; COCOA-cls: {_COCO_PHOTOS}",
        _bibtex(
            "follmann2019learning",
            "Follmann, Patrick and others",
            "Learning to See the Invisible: End-to-End Trainable Amodal Instance Segmentation",
            "WACV",
            2019,
        ),
    ),
    "bsds-a": SourceNote(
        "BSDS-A",
        "see the authors' terms; photos of the Berkeley Segmentation Dataset for non-commercial research",
        _bibtex("zhu2017semantic", "Zhu, Yan and others", "Semantic Amodal Segmentation", "CVPR", 2017),
    ),
    "d2sa": SourceNote(
        "D2S amodal (D2SA)",
        "see the authors' terms; MVTec D2S is for non-commercial use (CC BY-NC-SA 4.0)",
        _bibtex(
            "follmann2019learning",
            "Follmann, Patrick and others",
            "Learning to See the Invisible: End-to-End Trainable Amodal Instance Segmentation",
            "WACV",
            2019,
        ),
    ),
    "mp3d-amodal": SourceNote(
        "MP3D-Amodal",
        "see the authors' terms; photos of Matterport3D, for non-commercial research under its terms of use",
        _bibtex(
            "zhan2024amodal",
            "Zhan, Guanqi and Zheng, Chuanxia and Xie, Weidi and Zisserman, Andrew",
            "Amodal Ground Truth and Completion in the Wild",
            "CVPR",
            2024,
        ),
    ),
    "rooms": SourceNote(
        "Rendered rooms",
        "photos and ground truth made for this project from furniture models, under the models' licences (see below)",
        _bibtex(
            "zhan2024amodal",
            "Zhan, Guanqi and Zheng, Chuanxia and Xie, Weidi and Zisserman, Andrew",
            "Amodal Ground Truth and Completion in the Wild",
            "CVPR",
            2024,
        ),
    ),
    "cityscapes": SourceNote(
        "Cityscapes",
        "for non-commercial use under the Cityscapes terms; neither photos nor labels may be passed on",
        _bibtex(
            "cordts2016cityscapes",
            "Cordts, Marius and others",
            "The Cityscapes Dataset for Semantic Urban Scene Understanding",
            "CVPR",
            2016,
        ),
    ),
}


class RecordCounts:
    """Counts of a split for its card, made row by row; photos are not read.

    Example:
        >>> item = {"occlusion_rate": 0.5, "is_stuff": False, "is_crowd": False, "name": "cup"}
        >>> counts = RecordCounts()
        >>> counts.add({"objects": [item], "order_relations": None, "source": "coco"})
        >>> counts.numbers()["occluded"], counts.sources
        (1, {'coco'})
    """

    def __init__(self) -> None:
        self.sources: set[str] = set()
        self._names: set[str] = set()
        self._counts: Counter[str] = Counter()

    @classmethod
    def of(cls, dataset: Dataset) -> RecordCounts:
        """Counts of a data set of the schema, read a batch at a time."""
        counts = cls()
        columns = dataset.select_columns(["objects", "order_relations", "source"])
        for batch in columns.iter(COUNT_BATCH):
            for objects, relations, source in zip(*batch.values(), strict=True):
                counts.add({"objects": objects, "order_relations": relations, "source": source})
        return counts

    def add(self, row: Mapping[str, Any]) -> None:
        """Count a row of the schema."""
        counts, objects = self._counts, row["objects"]
        counts["images"] += 1
        counts["objects"] += len(objects)
        counts["relations"] += len(row["order_relations"] or ())
        if row["source"]:
            self.sources.add(row["source"])
        for item in objects:
            counts["amodal"] += item["occlusion_rate"] is not None
            counts["occluded"] += (item["occlusion_rate"] or 0) > 0
            counts["hidden"] += item["occlusion_rate"] == 1
            counts["stuff"] += item["is_stuff"]
            counts["crowd"] += item["is_crowd"]
            if item["name"] is not None:
                self._names.add(item["name"])

    def add_batch(self, batch: Any) -> None:
        """Count the rows of an Arrow table or a batch of one: its columns `objects`, `order_relations`, `source`."""
        import pyarrow.compute as compute

        counts = self._counts
        objects = compute.list_flatten(batch["objects"])
        rates, names = (compute.struct_field(objects, name) for name in ("occlusion_rate", "name"))
        known = rates.drop_null()
        counts["images"] += batch.num_rows
        counts["objects"] += len(objects)
        counts["relations"] += compute.sum(compute.list_value_length(batch["order_relations"])).as_py() or 0
        counts["amodal"] += len(known)
        counts["occluded"] += compute.sum(compute.greater(known, 0)).as_py() or 0
        counts["hidden"] += compute.sum(compute.equal(known, 1)).as_py() or 0
        for kind in ("stuff", "crowd"):
            counts[kind] += compute.sum(compute.struct_field(objects, f"is_{kind}")).as_py() or 0
        self.sources.update(source for source in batch["source"].unique().to_pylist() if source)
        self._names.update(names.drop_null().unique().to_pylist())

    def numbers(self) -> dict[str, int]:
        """By kind: images, objects, amodal (with a known amodal mask), occluded (with a hidden part).

        Then hidden (nothing visible), stuff, crowd, relations, named (distinct names).
        """
        kinds = ("images", "objects", "amodal", "occluded", "hidden", "stuff", "crowd", "relations")
        return {kind: self._counts[kind] for kind in kinds} | {"named": len(self._names)}


def dataset_card(
    splits: Mapping[str, Dataset | RecordCounts],
    repo_id: str,
    *,
    license: str | None = None,
    description: str | None = None,  # noqa: A002
) -> str:
    """Write the text of the data-set card (README.md of the repository), with its metadata.

    Args:
        splits: data set of each split, or its counts.
        repo_id: Hub id, which the example loads.
        license: the Hub's name of the licence; "other" if None.
        description: first paragraph.

    Example:
        >>> card = dataset_card({"train": RecordCounts()}, "user/cups", license="cc-by-4.0")
        >>> [line for line in card.splitlines() if line.startswith(("license", "# "))]
        ['license: cc-by-4.0', '# cups']
    """
    counts = {name: part if isinstance(part, RecordCounts) else RecordCounts.of(part) for name, part in splits.items()}
    metadata = DatasetCardData(
        license=license or "other",
        task_categories=["image-segmentation"],
        tags=["amodal-completion", "amodal-segmentation", "occlusion-order"],
        pretty_name=repo_id.split("/")[-1],
        configs=[
            {
                "config_name": "default",
                "data_files": [{"split": split, "path": f"data/{split}-*"} for split in splits],
            }
        ],
    )
    sources = sorted(set().union(*(part.sources for part in counts.values())))
    body = [
        f"# {repo_id.split('/')[-1]}",
        description or "Objects with their visible (modal) and whole (amodal) masks, and their occlusion order.",
        _counts_table(counts),
        _usage(repo_id, next(iter(splits))),
        _notes(sources),
    ]
    card = DatasetCard(f"---\n{metadata.to_yaml()}\n---\n\n" + "\n\n".join(body) + "\n")
    return str(card)


def _counts_table(splits: Mapping[str, RecordCounts]) -> str:
    counts = {split: part.numbers() for split, part in splits.items()}
    headings = {
        "images": "images",
        "objects": "objects",
        "amodal": "with amodal mask",
        "occluded": "with a hidden part",
        "hidden": "fully hidden",
        "stuff": "stuff",
        "crowd": "crowd",
        "relations": "order relations",
        "named": "class names",
    }
    lines = ["| split | " + " | ".join(headings.values()) + " |", "|---" + "|---:" * len(headings) + "|"]
    lines += [
        f"| {split} | " + " | ".join(f"{count[kind]:,}" for kind in headings) + " |" for split, count in counts.items()
    ]
    return "\n".join(lines)


def _usage(repo_id: str, split: str) -> str:
    return (
        "Masks are compressed COCO run lengths, boxes are (x, y, width, height) in pixels, and `order_relations` are "
        "pairs of indices into `objects`, of which `front` occludes `behind`.\n\n"
        "```python\n"
        "from amodal_diffusion.data import load_amodal_dataset, record_masks, record_order\n\n"
        f'rows = load_amodal_dataset("{repo_id}", split="{split}", streaming=True)\n'
        "for row in rows:\n"
        "    modal, amodal = record_masks(row)  # (N, height, width) bool; amodal is None where unknown\n"
        "    order = record_order(row)  # (N, N) int8, 1 where the row's object occludes the column's\n"
        "```"
    )


def _notes(sources: list[str]) -> str:
    licences, citations = [], []
    for source in sources:
        note = SOURCE_NOTES.get(source)
        if note is None:
            licences.append(f"- {source}: see its authors' terms")
        else:
            licences.append(f"- {note.title}: {note.licence}")
            if note.citation not in citations:
                citations.append(note.citation)
    text = "## Licences\n\n" + ("\n".join(licences) or "No source is named.")
    if citations:
        text += "\n\n## Citation\n\n```bibtex\n" + "\n".join(citations) + "\n```"
    return text
