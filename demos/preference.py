"""Which of two results people prefer, asked blind, as the user study of [L20].

    python demos/preference.py draw datasets/rooms-amodal --split test --method truth --limit 99 --output b
    python demos/preference.py draw datasets/rooms-amodal --split test --method pipelines/asbu --limit 99 --output a
    python demos/preference.py ask a b --answers answers.jsonl
    python demos/preference.py tell answers.jsonl

`ask` takes any two folders with pictures of the same names; nobody sees which is which, and the seed draws the sides.
Several people can answer at once, each under a name of their own; who comes again goes on. `draw` makes such a folder
from a data set: the photo around each object with a hidden part, with what a method takes for its whole shape.
`amodal-diffusion evaluate --table l20-6 --preferences answers.jsonl` lays the answers out beside the paper's.
"""

import argparse
from pathlib import Path

import numpy as np
from PIL import Image

import asking
from amodal_diffusion.data import load_amodal_dataset
from amodal_diffusion.data.preferences import PreferenceFile, preference_shares, read_preferences
from amodal_diffusion.data.reviews import review_keys
from amodal_diffusion.evaluation import PipelineMethod, TrueBoxMethod, load_methods, make_sample
from amodal_diffusion.images import load_image, save_image
from amodal_diffusion.masks import mask_boxes
from asking import encoded, outlines_of, read_choice, read_text

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")
TRUTH = "truth"
SIDES = ("left", "right")


class Study:
    """Two folders of pictures and what people prefer, as the page asks for it."""

    def __init__(self, first, second, answers, seed=0, people=None):
        self.folders = {"first": Path(first), "second": Path(second)}
        found = [{path.name for path in folder.iterdir()} for folder in self.folders.values()]
        names = sorted(name for name in found[0] & found[1] if name.lower().endswith(SUFFIXES))
        if not names:
            raise ValueError(f"{first} and {second} must have pictures of the same names, and have none.")
        self.file = PreferenceFile(answers, names, seed=seed, people=people)

    def state(self, person):
        """What the page shows next."""
        name = self.file.next(person)
        done, total = self.file.progress(person)
        return {"done": done, "total": total} | ({} if name is None else {"name": name})

    def picture(self, person, name, side):
        """PNG of the pixels alone, so that no file tells where it is from."""
        if name not in self.file.names:
            raise ValueError(f"no pair is named {name!r}")
        result = self.file.sides(person, name)[SIDES.index(side)]
        return encoded(load_image(self.folders[result] / name), "PNG")

    def answer(self, person, name, side):
        """Keep which side a person prefers, "left", "right" or "none"."""
        choice = side
        if side != "none":
            choice = self.file.sides(person, name)[SIDES.index(side)]
        self.file.answer(name, person, choice)


def make_server(study, host="127.0.0.1", port=0):
    """A server that is bound and not started; port 0 takes a free one."""

    def state(content):
        return study.state(read_text(content, "person"))

    def answer(content):
        side = read_choice(content, "side", (*SIDES, "none"))
        study.answer(read_text(content, "person"), read_text(content, "name"), side)
        return state(content)

    def undo(content):
        study.file.undo(read_text(content, "person"))
        return state(content)

    def picture(query):
        side = read_choice(query, "side", SIDES)
        return study.picture(read_text(query, "person"), read_text(query, "name"), side), "image/png"

    gets = {"/next": state, "/picture": picture}
    return asking.make_server("preference.html", gets, {"/answer": answer, "/undo": undo}, host, port)


def draw_objects(dataset, method, folder, *, min_rate=0.0, limit=None, seed=0):
    """Write a picture for each object with a hidden part; the same names and views whatever the method is.

    Args:
        dataset: rows of the schema, with amodal masks.
        method: of the evaluation, from sample to prediction; None draws the true masks.
        folder: made where it lacks.
        min_rate: objects of which no more is hidden are left out.
        limit: objects that are drawn at most, at random.
        seed: of that choice.

    Returns:
        How many were drawn.

    Raises:
        ValueError: a method of the order alone, a limit below 1, or no object to draw.
    """
    bare = dataset.remove_columns("image") if "image" in dataset.column_names else dataset
    keys = review_keys(bare, min_rate)
    if limit is not None and limit < 1:
        raise ValueError(f"`limit` must be at least 1, got {limit}.")
    if not keys:
        raise ValueError(f"no object has more than {min_rate:g} of it hidden: there is nothing to compare.")
    if limit is not None and limit < len(keys):
        keys = [keys[place] for place in np.random.default_rng(seed).choice(len(keys), limit, replace=False)]
    wanted = {}
    for key in keys:
        wanted.setdefault(key.image_id, []).append(key.object)
    Path(folder).mkdir(parents=True, exist_ok=True)
    for number, image_id in enumerate(bare["image_id"]):
        if image_id not in wanted:
            continue
        sample = make_sample(dataset[number])
        masks = sample.amodal if method is None else method(sample).masks
        if masks is None:
            raise ValueError(f"--method {method.name!r} tells an order and completes no masks.")
        for index in wanted[image_id]:
            picture = draw_object(sample.image, sample.modal[index], masks[index])
            save_image(picture, Path(folder) / f"{number:05d}-{index:02d}.png")
    return len(keys)


def draw_object(photo, modal, amodal):
    """The photo around the visible part, twice as large: the hidden part tinted, both outlines."""
    height, width = modal.shape
    ground = np.full((height, width, 3), 90, np.uint8) if photo is None else np.asarray(photo.convert("RGB"))
    tinted = ground.copy()
    hidden = amodal & ~modal
    tinted[hidden] = (0.6 * ground[hidden] + 0.4 * np.array(asking.AMODAL)).astype(np.uint8)
    large = Image.fromarray(tinted).resize((2 * width, 2 * height), Image.Resampling.BILINEAR)
    lines = Image.fromarray(outlines_of(modal, amodal))
    large.paste(lines, mask=lines.getchannel("A"))
    # By the visible part alone: a view that followed the answer would tell whose it is.
    x, y, w, h = mask_boxes((modal if modal.any() else np.ones_like(modal))[None])[0].tolist()
    rim = max(w, h) + 16
    left, top, right, bottom = max(x - rim, 0), max(y - rim, 0), min(x + w + rim, width), min(y + h + rim, height)
    return large.crop((2 * left, 2 * top, 2 * right, 2 * bottom))


def load_method(name, true_box=False):
    """What `--method` names; None for the truth."""
    if name == TRUTH:
        return None
    (method,) = load_methods([name])
    if not true_box:
        return method
    if not isinstance(method, PipelineMethod):
        raise ValueError(f"--true-box is for pipelines, got {name!r}.")
    return TrueBoxMethod(method.pipeline, method.name)


def summary(answers, confidence=0.95):
    """The shares as lines of text."""
    lines = []
    for name, share in preference_shares(answers, confidence).items():
        label = "first, of those that prefer one" if name == "decided" else "no preference" if name == "none" else name
        line = f"{label:<32} {share.count:>6} of {share.total:<6}"
        if share.total:
            low, high = share.interval
            line += f" {100 * share.value:5.1f} %  ({100 * low:.1f}–{100 * high:.1f})"
        lines.append(line.rstrip())
    return "\n".join(lines)


def make_parser():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    draw = commands.add_parser("draw", help="pictures of a data set's objects, completed by a method")
    draw.add_argument("dataset", help="folder, Parquet file or Hub id")
    draw.add_argument("--split", help="where there are several")
    draw.add_argument("--images", help="folder of the photos of a data set that has none in it")
    draw.add_argument("--method", required=True, help=f"{TRUTH}, a baseline, or the folder or Hub id of a pipeline")
    draw.add_argument("--true-box", action="store_true", help="give a pipeline the true box, as [L20] does")
    draw.add_argument("--min-rate", type=float, default=0.0, help="objects of which more is hidden (0)")
    draw.add_argument("--limit", type=int, help="objects at most, at random by the seed")
    draw.add_argument("--seed", type=int, default=0)
    draw.add_argument("--output", type=Path, required=True)
    ask = commands.add_parser("ask", help="serve the page")
    ask.add_argument("first", type=Path, help="folder of pictures")
    ask.add_argument("second", type=Path, help="folder of pictures of the same names")
    ask.add_argument("--answers", type=Path, required=True, help="JSON lines; an old file is gone on with")
    ask.add_argument("--seed", type=int, default=0, help="of order and sides (0)")
    ask.add_argument("--people", type=int, help="how many are asked about each pair; everybody without")
    ask.add_argument("--host", default="127.0.0.1")
    ask.add_argument("--port", type=int, default=7862)
    tell = commands.add_parser("tell", help="shares of the answers, with intervals")
    tell.add_argument("answers", type=Path)
    tell.add_argument("--confidence", type=float, default=0.95, help="of the intervals (0.95)")
    return parser


def main(arguments=None):
    options = make_parser().parse_args(arguments)
    if options.command == "draw":
        dataset = load_amodal_dataset(options.dataset, options.split, images=options.images)
        choice = {"min_rate": options.min_rate, "limit": options.limit, "seed": options.seed}
        count = draw_objects(dataset, load_method(options.method, options.true_box), options.output, **choice)
        print(f"{count} objects in {options.output}")
    elif options.command == "ask":
        study = Study(options.first, options.second, options.answers, options.seed, options.people)
        asking.serve(make_server(study, options.host, options.port), f"{len(study.file.names)} pairs")
    else:
        if not Path(options.answers).is_file():  # no answers yet is what a study begins with
            raise FileNotFoundError(f"{options.answers} does not exist; `ask` writes it.")
        print(summary(read_preferences(options.answers), options.confidence))


if __name__ == "__main__":
    asking.run(main)
