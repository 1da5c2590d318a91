"""Fillers: what may be copied, what fills which hole, and who decides."""

import numpy as np
import pytest
import torch
from PIL import Image

from amodal_diffusion import ContentPipeline
from amodal_diffusion.masks import dilate, erode
from amodal_diffusion.pipelines.content import exemplar, shifts, sources
from amodal_diffusion.pipelines.content.exemplar import fill_hole
from amodal_diffusion.pipelines.content.fillers import choose_filler
from amodal_diffusion.pipelines.content.shifts import Level, Sheet, match
from amodal_diffusion.pipelines.content.sources import background_holes, parts_apart, search_window
from content_helpers import check_tiles, painter, tile_of, tiny_content, tiny_content_model
from pipeline_helpers import crossing_bars


def textured(colour, height=60, width=80, seed=0):
    noise = np.random.default_rng(seed).integers(-40, 40, (height, width, 1))
    return np.clip(np.array(colour) + noise, 0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def scene():
    """A red object with texture behind a blue one, on green."""
    modal, amodal = crossing_bars()
    picture = textured((30, 200, 30))
    picture[modal[0]] = textured((200, 60, 60), seed=1)[modal[0]]
    picture[modal[1]] = (0, 0, 255)
    return picture, modal, amodal


@pytest.mark.filterwarnings("error:The given NumPy array is not writable")
@pytest.mark.parametrize("filler", ["exemplar", "blend", "smooth"])
def test_a_photo_that_cannot_be_written_is_no_matter(filler, scene):
    picture, modal, amodal = scene
    picture = picture.copy()
    picture.setflags(write=False)
    torch.set_warn_always(True)  # it warns once in a process
    try:
        pipe = ContentPipeline(filler=filler)
        pipe(picture, modal, amodal)
        pipe(Image.fromarray(picture), modal, amodal)
        pipe.background(picture, modal.any(0))
    finally:
        torch.set_warn_always(False)


@pytest.mark.parametrize("filler", ["exemplar", "blend", "smooth"])
def test_hidden_parts_are_of_the_object(filler, scene):
    picture, modal, amodal = scene
    output = ContentPipeline(filler=filler)(picture, modal, amodal)
    assert output.fillers == [filler, None]
    check_tiles(output, picture, modal, amodal)
    _, hidden = tile_of(picture, amodal[0] & ~modal[0], output.boxes[0])
    found = output.objects[0][hidden][:, :3].astype(int)
    assert (found[:, 0] > found[:, 1] + 60).all() and (found[:, 0] > found[:, 2] + 60).all()
    assert bool(np.abs(np.diff(found[:, 0])).mean() > 10) is (filler != "smooth")


@pytest.mark.parametrize("filler", ["exemplar", "blend", "smooth"])
def test_background_is_of_the_background(filler, scene):
    picture, modal, _ = scene
    pipe = ContentPipeline(filler=filler)
    found = pipe.background(picture, modal).astype(int)
    hole = modal.any(axis=0)
    assert np.array_equal(found[~hole], picture[~hole])
    assert (found[hole][:, 1] > found[hole][:, 0] + 60).all() and (found[hole][:, 1] > found[hole][:, 2] + 60).all()
    rim = pipe.background(picture, modal, replace_rim=True)
    assert (rim != picture).any(axis=-1).sum() > (found != picture).any(axis=-1).sum()


def test_what_is_to_be_avoided_is_not_copied(scene):
    picture, modal, _ = scene
    found = ContentPipeline(filler="exemplar").background(picture, modal[1], avoid=modal[0])
    reds = (found[modal[1]][:, 0].astype(int) > found[modal[1]][:, 1]).mean()
    assert reds < 0.5  # colours of the seam go on, texture is not copied


def test_rims_are_not_copied(scene):
    """The outermost pixels of the visible part are white: light from elsewhere."""
    picture, modal, amodal = scene
    picture = picture.copy()
    picture[modal[0] & ~erode(modal[0])] = 255
    pipe = ContentPipeline(filler="exemplar", source_margin=2)
    output = pipe(picture, modal, amodal)
    _, hidden = tile_of(picture, amodal[0] & ~modal[0], output.boxes[0])
    assert output.objects[0][hidden][:, 1].max() < 180


def test_a_call_gives_the_same_again_and_a_generator_decides(scene):
    picture, modal, amodal = scene
    pipe = ContentPipeline(filler="exemplar")

    def call(seed=None):
        generator = None if seed is None else torch.Generator().manual_seed(seed)
        return pipe(picture, modal, amodal, generator=generator).objects[0]

    assert np.array_equal(call(), call()) and np.array_equal(call(3), call(3))


def test_fillers_by_object(scene):
    picture, modal, amodal = scene
    amodal = amodal | modal[::-1]  # each hides some of the other
    pipe = tiny_content(filler="blend")

    def call(filler, **options):
        return pipe(picture, modal, amodal, filler=filler, **options).fillers

    assert call(None) == ["blend", "blend"]
    assert call("smooth") == ["smooth", "smooth"]
    assert call(["pcnet-c", None]) == ["pcnet-c", "blend"]
    assert call({1: "exemplar"}) == ["blend", "exemplar"]
    assert call({"cup": "smooth"}, names=["cup", "plate"]) == ["smooth", "blend"]
    assert call("auto") == ["blend", "smooth"]  # the blue one has no texture


def surfaces():
    """Pictures of 96 x 96 pixels: what is thought plain and what textured."""
    rng = np.random.default_rng(0)
    shading = np.linspace(60, 160, 96)[:, None] + np.linspace(0, 40, 96)
    glossy = shading.copy()
    for y, x in rng.integers(4, 90, (9, 2)):
        glossy[y : y + 3, x - 4 : x + 5] = 250  # highlights
    glossy[40:43] = 20  # and a fold
    dots = np.full((96, 96), 150.0)
    for y, x in np.mgrid[4:96:8, 4:96:8].reshape(2, -1).T:
        dots[y - 2 : y + 2, x - 2 : x + 2] = 60
    stripes = np.where(np.arange(96) // 8 % 2, 90.0, 170.0) + np.zeros((96, 1))
    noise = shading + rng.normal(0, 12, (96, 96))
    plain = {"shading": shading, "glossy": glossy}
    return plain, {"dots": dots, "stripes": stripes, "stripes lying": stripes.T, "noise": noise}


@pytest.mark.parametrize("scale", [1, 2])
def test_highlights_are_no_texture_and_sparse_patterns_are(scale):
    plain, textured = surfaces()
    hole = np.zeros((96, 96), bool)
    hole[30:60, 30:60] = True
    hole = hole.repeat(scale, 0).repeat(scale, 1)
    patterns = textured if scale == 1 else {"noise": textured["noise"]}
    for name, grey in {**plain, **patterns}.items():
        picture = Image.fromarray(grey.clip(0, 255).astype(np.uint8)).convert("RGB")
        photo = np.asarray(picture.resize((96 * scale, 96 * scale), Image.Resampling.BICUBIC))
        assert choose_filler(photo, hole, ~hole, None) == ("smooth" if name in plain else "blend"), name


def test_a_background_goes_on_where_it_has_edges():
    plain, _ = surfaces()
    hole = np.zeros((96, 96), bool)
    hole[30:60, 30:60] = True
    photo = np.repeat(plain["glossy"].clip(0, 255).astype(np.uint8)[..., None], 3, axis=2)
    assert choose_filler(photo, hole, ~hole, None, "exemplar") == "exemplar"
    assert choose_filler(np.full_like(photo, 80), hole, ~hole, None, "exemplar") == "smooth"
    wall = photo - photo % 80 + np.random.default_rng(0).integers(0, 5, (96, 96, 1), np.uint8)  # a little grain
    assert choose_filler(wall, hole, ~hole, None, "exemplar") == "exemplar"


def test_the_network_stays_the_default_of_a_network(scene):
    picture, modal, amodal = scene
    assert painter()(picture, modal, amodal).fillers == ["pcnet-c", None]


def test_low_frequencies_of_the_network(scene):
    picture, modal, amodal = scene
    pipe = painter(colour=(0.1, 0.9, 0.1), feather=0, filler="blend", blend_prior="network")
    found = pipe(picture, modal, amodal).objects[0]
    _, hidden = tile_of(picture, amodal[0] & ~modal[0], pipe(picture, modal, amodal).boxes[0])
    assert np.abs(found[hidden][:, :3].mean(axis=0) - (25, 230, 25)).max() < 40
    background = pipe.background(picture, modal)
    assert np.abs(background[modal.any(axis=0)].mean(axis=0) - (25, 230, 25)).max() < 40


def test_saved_settings_load_again(tmp_path):
    ContentPipeline(filler="exemplar", source_margin=2).save_pretrained(tmp_path / "bare")
    pipe = ContentPipeline.from_pretrained(tmp_path / "bare")
    assert (pipe.config.filler, pipe.config.source_margin, pipe.model, pipe.inpainter) == ("exemplar", 2, None, None)
    tiny_content(filler="blend", blend_prior="network").save_pretrained(tmp_path / "network")
    pipe = ContentPipeline.from_pretrained(tmp_path / "network")
    assert pipe.config.blend_prior == "network" and pipe.model is not None


def test_an_object_of_which_nothing_is_seen(scene):
    picture, modal, amodal = scene
    output = ContentPipeline(filler="auto")(picture, np.stack([modal[0] & False, modal[1]]), amodal)
    assert output.fillers[0] == "smooth"


def test_an_object_that_shows_little_is_helped_by_one_of_the_same_name():
    """The visible part is plain, its sibling has stripes; only a sibling of the same name is copied from."""
    picture = np.full((60, 120, 3), 120, np.uint8)
    picture[:, 60:, :] = np.where(np.arange(60) % 6 < 3, 90, 150)[None, :, None]
    modal, amodal = np.zeros((2, 2, 60, 120), bool)
    modal[0, 10:50, 10:20], amodal[0, 10:50, 10:50] = True, True
    modal[1, 10:50, 70:110] = amodal[1, 10:50, 70:110] = True

    def detail(names):
        tile = ContentPipeline(filler="exemplar")(picture, modal, amodal, names=names).objects[0]
        return np.abs(np.diff(tile[..., 0].astype(int), axis=1)).mean()

    assert detail(["cup", "plate"]) < 1
    assert detail(["cup", "cup"]) >= detail(["cup", "plate"])


def test_the_window_follows_the_hole():
    hole = np.zeros((2000, 3000), bool)
    hole[900:950, 1000:1060] = True
    rows, columns = search_window(hole, ~hole)
    assert (rows.stop - rows.start) * (columns.stop - columns.start) < 200 * 200
    assert search_window(np.ones((40, 60), bool), np.zeros((40, 60), bool)) == (slice(0, 40), slice(0, 60))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"filler": "magic"}, "`filler` must be one of 'auto', 'blend'"),
        ({"filler": "inpainter"}, "`filler` 'inpainter' needs the component `inpainter`"),
        ({"filler": "blend", "blend_prior": "magic"}, "`blend_prior` must be one of"),
        ({"filler": "blend", "source_margin": -1}, "`source_margin` must be at least 0"),
    ],
)
def test_wrong_settings(settings, message):
    with pytest.raises(ValueError, match=message):
        ContentPipeline(tiny_content_model(), **settings)


def test_a_prior_of_a_network_that_is_not_there():
    with pytest.raises(ValueError, match="`blend_prior` 'network' needs a `model` or an `inpainter`"):
        ContentPipeline(filler="blend", blend_prior="network")
    with pytest.raises(ValueError, match="Exactly one of `model`"):
        ContentPipeline()


@pytest.mark.parametrize(
    ("filler", "kind", "message"),
    [
        ("magic", ValueError, "`filler` must be one of"),
        ("inpainter", ValueError, "`filler` 'inpainter' needs"),
        (["blend"], ValueError, "`filler` must have one entry for each of the 2 objects, got 1"),
        ({"dog": "blend"}, ValueError, "`filler` names 'dog'"),
        ({7: "blend"}, ValueError, "`filler` names 7"),
        (3, TypeError, "`filler` must be a text, a list or a dictionary, got int"),
    ],
)
def test_wrong_fillers(filler, kind, message, scene):
    picture, modal, amodal = scene
    with pytest.raises(kind, match=message):
        tiny_content()(picture, modal, amodal, filler=filler)


def level_of(image, hole):
    """A level in which everything beside the hole may be copied; (3, h, w) in [0, 1] and (h, w)."""
    seen = torch.where(hole, image[:, ~hole].mean(), image)
    places = Sheet.of_picture(np.zeros((*hole.shape, 3), np.uint8), (~hole).numpy()).places
    return Level(seen, ~hole, hole, seen, ~hole, places)


def test_a_large_hole_is_no_lattice_of_a_few_patches():
    noise = torch.rand(1, 1, 100, 100, generator=torch.Generator().manual_seed(0))
    image = torch.nn.functional.avg_pool2d(noise, 3, 1, 1)[0].expand(3, -1, -1)
    hole = torch.zeros(100, 100, dtype=torch.bool)
    hole[15:85, 30:] = True
    found = match(level_of(image, hole), torch.Generator().manual_seed(0))
    assert not hole.flatten()[found.index[hole]].any()
    shifts = found.index - torch.arange(10_000).view(100, 100)
    assert (shifts[hole.roll(1, 1) & hole] == shifts.roll(1, 1)[hole.roll(1, 1) & hole]).float().mean() > 0.8


@pytest.mark.parametrize("scale", [1, 2])
def test_straight_structures_go_on_across_a_hole(scale):
    """Slats and the edge of a floor, behind something that hides 60 pixels of them."""
    picture = np.where(np.arange(160 * scale) // (6 * scale) % 2, 90, 170)[None, :, None].repeat(120 * scale, axis=0)
    picture = (picture + np.array([0, 20, 40])).astype(np.uint8)
    picture[80 * scale :] = (40, 60, 50)
    picture += np.random.default_rng(0).integers(0, 12, (*picture.shape[:2], 1), np.uint8)
    hidden = np.zeros(picture.shape[:2], bool)
    hidden[30 * scale : 105 * scale, 50 * scale : 110 * scale] = True
    covered = picture.copy()
    covered[hidden] = (250, 0, 250)
    pipe = ContentPipeline(filler="exemplar")

    def error(filler):
        return np.abs(pipe.background(covered, hidden, filler=filler).astype(int) - picture)[hidden].mean()

    assert error("exemplar") < 0.5 * error("smooth")


def test_one_thing_beside_a_hole_does_not_shine_into_it():
    """A red sign touches the hole; what is copied far from it stays as it is."""
    picture = textured((120, 120, 120), 100, 160)
    picture[40:60, 30:49] = (250, 20, 20)
    hidden = np.zeros((100, 160), bool)
    hidden[25:75, 50:110] = True
    pipe = ContentPipeline(filler="exemplar")

    def cast(filler):
        found = pipe.background(picture, hidden, filler=filler)[25:75, 60:110].astype(int)
        return (found[..., 0] - found[..., 1]).mean()

    assert cast("exemplar") < 0.5 * cast("smooth")


def fence(width=200, seed=0):
    """Pickets of 8 pixels before a sky and a meadow, and where 22 of them in the middle are hidden."""
    picture = np.where(np.arange(width) // 8 % 2, 90, 190)[None, :, None].repeat(100, axis=0).repeat(3, axis=2)
    picture[:35] = (120, 170, 220)
    picture[75:] = (60, 110, 50)
    picture = (picture + np.random.default_rng(seed).integers(0, 12, (100, width, 1))).astype(np.uint8)
    hidden = np.zeros((100, width), bool)
    hidden[20:90, width // 2 - 11 : width // 2 + 11] = True
    return picture, hidden


@pytest.mark.parametrize("filler", ["exemplar", "blend", "smooth"])
def test_a_hole_far_away_does_not_change_how_another_is_filled(filler):
    """Two people at a fence, far apart: what suits the place of either is near it."""
    picture, first = fence(500)
    second = first.copy()
    first, second = np.roll(first, -200, axis=1), np.roll(second, 200, axis=1)
    picture[first | second] = (250, 0, 250)
    pipe = ContentPipeline(filler=filler)
    both = pipe.background(picture, [first, second])
    assert np.array_equal(both[first], pipe.background(picture, first, avoid=second)[first])


def overlapping(seed):
    """Some boxes of all sizes, of which most touch or overlap."""
    rng = np.random.default_rng(seed)
    places = np.zeros((6, 90, 120), bool)
    for place, side in zip(places, (30, 25, 20, 15, 9, 4), strict=True):
        y, x = rng.integers(20, 70 - side), rng.integers(20, 100 - side)
        place[y : y + side, x : x + side] = True
    return places


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("margin", [0, 2])
def test_places_take_turns(seed, margin):
    places = overlapping(seed)
    picture = textured((30, 200, 30), *places.shape[1:], seed=seed)
    picture[places.any(0)] = (250, 0, 250)
    everywhere, filled = places.any(0), np.zeros(places.shape[1:], bool)
    widest = dilate(everywhere, kernel="square", size=2 * margin + 1)
    for turn in background_holes(picture, places, None, None, margin):
        waiting = (everywhere & ~filled)[turn.window] & ~turn.hole
        assert turn.hole.any() and not (turn.hole & filled[turn.window]).any()
        assert not (turn.usable & everywhere[turn.window]).any()  # nothing of any place is copied
        assert not (turn.known & dilate(waiting, kernel="square", size=5)).any()
        assert (turn.known | waiting | turn.hole | dilate(waiting, kernel="square", size=9)).all()  # what is filled is
        filled[turn.window] |= turn.hole
    assert not (everywhere & ~filled).any() and not (filled & ~widest).any()


@pytest.mark.parametrize("filler", ["exemplar", "blend", "smooth"])
def test_places_in_any_order_give_one_background_and_the_photo_stays_beside_them(filler):
    places = overlapping(1)
    picture = textured((30, 200, 30), *places.shape[1:])
    picture[places.any(0)] = (250, 0, 250)
    pipe = ContentPipeline(filler=filler, source_margin=0)
    found = pipe.background(picture, places)
    assert np.array_equal(found, pipe.background(picture, places[::-1]))
    hole = places.any(0)
    assert np.array_equal(found[~hole], picture[~hole])
    assert (found[hole][:, 1] > found[hole][:, 0]).all() and (found[hole][:, 1] > found[hole][:, 2]).all()


def test_a_place_shows_nothing_of_the_object_beside_it():
    """Two people at a wall, one with a halo: where the other one was, none of it shines."""
    picture = textured((90, 110, 90))
    places = np.zeros((2, 60, 80), bool)
    places[0, 15:45, 20:45] = places[1, 20:40, 45:58] = True
    picture[dilate(places[1], kernel="square", size=5)] = 255
    picture[places[0]] = (250, 0, 250)
    pipe = ContentPipeline(filler="exemplar", source_margin=0)
    beside = places[0] & dilate(places[1], kernel="square", size=11)
    plain = textured((90, 110, 90))[~places.any(0)].max()
    alone, together = (pipe.background(picture, removed)[beside] for removed in (places, places.any(0)))
    assert alone.max() <= plain + 5
    assert together.mean() > alone.mean() + 3  # filled as one hole, it is


def test_what_lies_at_the_same_height_goes_on():
    picture, hidden = fence()
    covered = picture.copy()
    covered[hidden] = (250, 0, 250)
    found = ContentPipeline(filler="exemplar").background(covered, hidden)
    assert np.abs(found[hidden].astype(int) - picture[hidden]).mean() < 15


@pytest.mark.parametrize("pixels", [1, 2])
@pytest.mark.parametrize("blend", [False, True])
def test_a_hole_of_a_pixel_beside_which_nothing_is_known_is_filled(pixels, blend):
    picture = textured((120, 90, 60))
    hole, known = np.zeros((60, 80), bool), np.zeros((60, 80), bool)
    hole[30, 40 : 40 + pixels], known[:, :20] = True, True
    found = fill_hole(picture, hole, known, known, blend=blend)
    assert np.array_equal(found[~hole], picture[~hole]) and np.abs(found[hole] - picture.mean((0, 1))).max() < 60


@pytest.mark.parametrize("seed", [0, 2, 3])
def test_what_lies_at_the_same_height_goes_on_in_all_of_a_wide_hole(seed):
    """Riders before the surf: what goes on behind one is too far away to go on behind the other."""
    rng = np.random.default_rng(seed)
    lines = rng.integers(0, 255, (20, 1, 3)).repeat(4, axis=0).repeat(260, axis=1)
    picture = (lines + rng.normal(0, 6, lines.shape)).clip(0, 255).astype(np.uint8)
    hidden = np.zeros((80, 260), bool)
    hidden[8:, :70] = hidden[8:, 90:170] = hidden[72:, :170] = True
    covered = np.where(hidden[..., None], np.uint8(250), picture)
    found = ContentPipeline(filler="exemplar").background(covered, hidden)
    assert np.abs(found[hidden].astype(int) - picture[hidden]).mean() < 10


def test_parts_of_a_hole_make_the_whole_of_it():
    hole = np.random.default_rng(0).random((90, 130)) < 0.02
    hole[5:30, 5:30] = hole[50:80, 60:120] = True
    parts = list(parts_apart(hole))
    assert len(parts) > 2 and np.array_equal(np.sum(parts, axis=0), hole)
    assert not list(parts_apart(np.zeros((4, 4), bool)))


def test_no_turn_of_a_background_is_empty(monkeypatch):
    """Scattered places, whose rims hold one another."""
    monkeypatch.setattr(sources, "mixed_rim", lambda *arguments: 2)
    random = np.random.RandomState(0)
    for height, width in ((3, 64), (8, 17), (40, 60)):
        for _ in range(60):
            places = random.rand(3, height, width) > random.rand(3, 1, 1)
            photo = random.randint(0, 256, (height, width, 3)).astype(np.uint8)
            turns = list(background_holes(photo, places, None, None, margin=3))
            assert all(turn.hole.any() and turn.share > 0 for turn in turns)
            painted = sum(np.count_nonzero(turn.hole) for turn in turns)
            assert painted >= np.count_nonzero(places.any(axis=0))


def test_one_colour_has_components():
    """Its spread is nothing but rounding errors, which solvers do not like."""
    for value in range(256):
        colour = torch.tensor(value / 255)
        odd = torch.rand(40, 147, generator=torch.Generator().manual_seed(value)) < 0.01
        patches = torch.where(odd, torch.nextafter(colour, torch.tensor(1.0)), colour)
        _, basis = shifts._components(patches, torch.Generator())
        torch.testing.assert_close(basis.T @ basis, torch.eye(basis.shape[1]), atol=1e-4, rtol=0)


@pytest.mark.parametrize("filler", ["exemplar", "blend", "smooth"])
def test_holes_are_filled_in_place_as_in_a_copy(filler):
    picture = textured((90, 120, 60))
    places = np.zeros((2, 60, 80), bool)
    places[0, 5:30, 10:30] = places[1, 20:50, 45:60] = True
    given = picture.copy()
    for hole in background_holes(given, places, None, None, margin=1):
        copied = hole.fill(filler)
        hole.fill(filler, out=given[hole.window])
        np.testing.assert_array_equal(given[hole.window], copied)
    left = ~dilate(places.any(axis=0), kernel="square", size=7)
    np.testing.assert_array_equal(given[left], picture[left])


@pytest.mark.parametrize("height", range(60, 64))
@pytest.mark.parametrize("bottom", [55, 64])
def test_a_hole_is_filled_whatever_blocks_its_window_has(height, bottom):
    picture = textured((90, 120, 60), height=height)
    hole = np.zeros((height, 80), bool)
    hole[20:bottom, 20:50] = True
    picture[hole] = (255, 0, 255)
    filled = fill_hole(picture, hole, ~hole, ~hole, most=100, blend=False)
    assert filled[hole].astype(int)[:, 1].min() > 60
    np.testing.assert_array_equal(filled[~hole], picture[~hole])


def parts_of_a_picture():
    """(60, 70, 3) each, of which the pixels do not lie row after row."""
    picture = np.random.default_rng(0).integers(0, 256, (90, 150, 4), dtype=np.uint8)
    colours = np.ascontiguousarray(picture[..., :3])
    return {
        "window": colours[10:70, 30:100],
        "upside down": colours[69:9:-1, 30:100],
        "mirrored": colours[10:70, 99:29:-1],
        "every other column": colours[10:70, :140:2],
        "with transparency": picture[10:70, 30:100, :3],
        "one row for all": np.broadcast_to(colours[:1, :70], (60, 70, 3)),
        "padded rows": np.lib.stride_tricks.as_strided(colours, (60, 70, 3), (70 * 3 + 1, 3, 1)),
        "whole": colours[:60, :70].copy(),
    }


@pytest.mark.parametrize("name", parts_of_a_picture())
def test_pixels_row_after_row_are_those_of_the_part(name):
    part = parts_of_a_picture()[name]
    flat, row = exemplar._row_after_row(part)
    np.testing.assert_array_equal(flat[(np.arange(60)[:, None] * row + np.arange(70))], part)
    assert np.shares_memory(flat, part) == (name in ("window", "whole"))
    for empty in (part[:0], part[:, :0]):
        assert exemplar._row_after_row(empty)[0].shape == (0, 3)


@pytest.mark.parametrize("blend", [False, True])
@pytest.mark.parametrize("name", ["window", "mirrored"])
def test_part_of_a_picture_is_filled_as_its_copy_also_in_place(name, blend, monkeypatch):
    monkeypatch.setattr(exemplar, "_STRIP", 300)  # so that pixels are put in place before others are read
    part = parts_of_a_picture()[name]
    hole, usable = np.zeros((2, 60, 70), bool)
    hole[20:41, 25:46] = True
    usable[~hole] = np.random.default_rng(1).random(np.count_nonzero(~hole)) < 0.97
    options = {"most": 60, "blend": blend}
    expected = fill_hole(part.copy(), hole, ~hole, usable, **options)
    np.testing.assert_array_equal(fill_hole(part, hole, ~hole, usable, out=part, **options), expected)


def test_single_pixels_that_may_not_be_copied_are_not():
    """They lie within blocks of which most may be."""
    picture = textured((120, 120, 120), 60, 70)
    hole = np.zeros((60, 70), bool)
    hole[20:41, 25:46] = True
    usable = ~hole & (np.random.default_rng(1).random(hole.shape) < 0.95)
    picture[~usable & ~hole] = (255, 0, 255)
    found = fill_hole(picture, hole, ~hole, usable, most=60, blend=False)
    assert np.ptp(found[hole].astype(int), axis=1).max() < 60
