"""A page on which people say of each object whether both of its masks are of good quality, in two rounds [Z24].

    python demos/review.py datasets/rooms-amodal --split test --reviews reviews.jsonl
    amodal-diffusion dataset accept datasets/rooms-amodal --split test --reviews reviews.jsonl --output accepted/

It takes any data set of the schema: the results of `amodal-diffusion ground-truth`, `annotate` and `dataset convert`.
Several people can review at once, each under a name of their own. The second round is for others than the first; it
sees what the first accepted, and a tenth of what it rejected, by which their agreement is told.
"""

import argparse
import threading
from functools import lru_cache
from pathlib import Path

from PIL import Image

import asking
from amodal_diffusion.data import load_amodal_dataset, record_masks
from amodal_diffusion.data.reviews import ReviewFile, ReviewKey, agreement, review_keys
from amodal_diffusion.display import describe
from amodal_diffusion.images import load_image
from asking import encoded, outlines_of, read_choice, read_number, read_text

_LOCK = threading.Lock()


class Review:
    """A data set and its answers, as the page asks for them."""

    def __init__(self, dataset, reviews, min_rate=0.0, control=0.1):
        self.dataset = dataset
        plain = dataset.remove_columns("image") if "image" in dataset.column_names else dataset
        self.places = {row["image_id"]: place for place, row in enumerate(plain)}
        self.file = ReviewFile(reviews, review_keys(plain, min_rate), control=control)
        self.row = lru_cache(maxsize=16)(self._row)

    def _row(self, image_id):
        if image_id not in self.places:
            raise ValueError(f"`image_id` must be that of a photo, got {describe(image_id)}")
        with _LOCK:  # an Arrow table is read by one thread at a time
            return self.dataset[self.places[image_id]]

    def state(self, person, number):
        """What the page shows next."""
        key = self.file.next(person, number)
        done, total = self.file.progress(number)
        state = {"done": done, "total": total, "agreement": agreement(self.file.answers())}
        if key is not None:
            item = self.row(key.image_id)["objects"][key.object]
            state |= {"image_id": key.image_id, "index": key.object, "name": item["name"]}
            state |= {"hidden": item["occlusion_rate"], "box": item["amodal_box"]}
        return state

    def photo(self, image_id):
        row = self.row(image_id)
        if row.get("image") is None:
            picture = Image.new("RGB", (row["width"], row["height"]), (90, 90, 90))
        else:
            picture = load_image(row["image"])
        return encoded(picture, "JPEG", quality=92)

    def outlines(self, image_id, index):
        """Those of an object, see `outlines_of`."""
        modal, amodal = record_masks(self.row(image_id))
        if index >= len(modal):
            raise ValueError(f"`index` must be that of one of {len(modal)} objects, got {index}")
        return encoded(Image.fromarray(outlines_of(modal[index], amodal[index])), "PNG")


def make_server(review, host="127.0.0.1", port=0):
    """A server that is bound and not started; port 0 takes a free one."""

    def state(query):
        return review.state(read_text(query, "person"), read_number(query, "round"))

    def answer(content):
        key = ReviewKey(read_text(content, "image_id"), read_number(content, "index"))
        accepted = read_choice(content, "accepted", (True, False))
        review.file.answer(key, read_number(content, "round"), read_text(content, "person"), accepted)
        return state(content)

    def undo(content):
        review.file.undo(read_text(content, "person"), read_number(content, "round"))
        return state(content)

    gets = {
        "/next": state,
        "/photo": lambda query: (review.photo(read_text(query, "image_id")), "image/jpeg"),
        "/outlines": lambda query: (
            review.outlines(read_text(query, "image_id"), read_number(query, "index")),
            "image/png",
        ),
    }
    return asking.make_server("review.html", gets, {"/answer": answer, "/undo": undo}, host, port)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", help="folder, Parquet file or Hub id")
    parser.add_argument("--split", help="where there are several")
    parser.add_argument("--images", help="folder of the photos of a data set that has none in it")
    parser.add_argument("--reviews", type=Path, required=True, help="JSON lines; an old file is gone on with")
    parser.add_argument(
        "--min-rate", type=float, default=0.0, help="objects of which more is hidden (0; [Z24]: 0.1667)"
    )
    parser.add_argument("--control", type=float, default=0.1, help="share of rejected objects in round two (0.1)")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=7861)
    options = parser.parse_args()
    dataset = load_amodal_dataset(options.dataset, options.split, images=options.images)
    review = Review(dataset, options.reviews, options.min_rate, options.control)
    asking.serve(make_server(review, options.host, options.port), f"{len(review.file.keys)} objects")


if __name__ == "__main__":
    asking.run(main)
