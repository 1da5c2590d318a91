"""A page on which people say of each object whether both of its masks are of good quality, in two rounds [Z24].

    python demos/review.py datasets/rooms-amodal --split test --reviews reviews.jsonl
    amodal-diffusion dataset accept datasets/rooms-amodal --split test --reviews reviews.jsonl --output accepted/

It takes any data set of the schema: the results of `amodal-diffusion ground-truth`, `annotate` and `dataset convert`.
Several people can review at once, each under a name of their own. The second round is for others than the first; it
sees what the first accepted, and a tenth of what it rejected, by which their agreement is told.
"""

import argparse
import io
import json
import threading
from functools import lru_cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import numpy as np
from PIL import Image

from amodal_diffusion.data import load_amodal_dataset, record_masks
from amodal_diffusion.data.reviews import ReviewFile, ReviewKey, agreement, review_keys
from amodal_diffusion.images import load_image

PAGE = Path(__file__).with_name("review_page.html")
MODAL, AMODAL = (40, 220, 255), (255, 70, 60)
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
        """Both outlines on a clear ground, twice as large as the photo: amodal red, modal cyan over it."""
        modal, amodal = record_masks(self.row(image_id))
        picture = np.zeros((2 * modal.shape[1], 2 * modal.shape[2], 4), dtype=np.uint8)
        for mask, color in ((amodal[index], AMODAL), (modal[index], MODAL)):
            picture[outline(np.repeat(np.repeat(mask, 2, 0), 2, 1))] = (*color, 255)
        return encoded(Image.fromarray(picture), "PNG")


def outline(mask):
    """Pixels of a mask beside others; those at the edge of the photo too."""
    padded = np.pad(mask, 1)
    inner = padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    return mask & ~inner


def encoded(picture, kind, **options):
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()


def make_handler(review):
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):  # noqa: N802 - the name that http.server asks for
            parts = urlsplit(self.path)
            query = {key: values[0] for key, values in parse_qs(parts.query).items()}
            try:
                if parts.path == "/":
                    self.reply(PAGE.read_bytes(), "text/html; charset=utf-8")
                elif parts.path == "/next":
                    self.reply_json(review.state(query["person"], int(query["round"])))
                elif parts.path == "/photo":
                    self.reply(review.photo(query["image_id"]), "image/jpeg")
                elif parts.path == "/outlines":
                    self.reply(review.outlines(query["image_id"], int(query["index"])), "image/png")
                else:
                    self.send_error(404)
            except (KeyError, ValueError, IndexError) as error:
                self.reply_json({"error": str(error)}, 400)

        def do_POST(self):  # noqa: N802
            try:
                # A page of another site can send a form, but not this type, without the browser asking us first.
                if self.headers.get_content_type() != "application/json":
                    raise ValueError("the content must be application/json")
                content = json.loads(self.rfile.read(min(int(self.headers["Content-Length"]), 65536)))
                person, number = str(content["person"]), int(content["round"])
                if self.path == "/answer":
                    key = ReviewKey(str(content["image_id"]), int(content["index"]))
                    review.file.answer(key, number, person, content["accepted"] is True)
                elif self.path == "/undo":
                    review.file.undo(person, number)
                else:
                    self.send_error(404)
                    return
                self.reply_json(review.state(person, number))
            except (KeyError, ValueError, TypeError) as error:
                self.reply_json({"error": str(error)}, 400)

        def reply_json(self, content, status=200):
            # JSON knows no NaN.
            text = json.dumps(content).replace("NaN", "null")
            self.reply(text.encode(), "application/json", status)

        def reply(self, content, kind, status=200):
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(content)))
            self.send_header("Cache-Control", "no-store")
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *arguments):
            pass

    return Handler


def make_server(review, host="127.0.0.1", port=0):
    """A server that is bound and not started; port 0 takes a free one."""
    return ThreadingHTTPServer((host, port), make_handler(review))


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
    with make_server(review, options.host, options.port) as server:
        print(f"{len(review.file.keys)} objects on http://{options.host}:{server.server_address[1]}/", flush=True)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            pass


if __name__ == "__main__":
    main()
