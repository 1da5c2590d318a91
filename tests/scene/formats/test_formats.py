"""Scenes in files: every format gives back an equal scene, and other programs see what is rendered."""

import io
import json
import os
import time
import zipfile
from threading import Thread

import numpy as np
import pytest
from PIL import Image
from psd_tools import PSDImage
from pycocotools.coco import COCO

from amodal_diffusion import files
from amodal_diffusion.masks import decode_rle, mask_areas, mask_boxes
from amodal_diffusion.scene import Layer, Scene
from amodal_diffusion.scene import formats as scene_formats
from amodal_diffusion.scene.formats import FORMATS, check_scene_output, load_scene, save_scene, scene_format
from kill_helpers import killed_at_every_step, tree
from scene_format_helpers import CASES, HEIGHT, WIDTH, edited_scenes, make_scene, shift

PATHS = {"folder": "scene", "ora": "scene.ora", "psd": "scene.psd", "coco": "scene.json"}


@pytest.fixture(scope="module")
def scenes():
    return edited_scenes()


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("name", PATHS)
def test_round_trip_gives_an_equal_scene(tmp_path, scenes, name, case):
    scene, path = scenes[case], tmp_path / PATHS[name]
    scene.save(path)
    read = Scene.load(path)
    assert read.equals(scene)
    assert np.array_equal(read.render(output_type="np"), scene.render(output_type="np"))
    assert [layer.name for layer in read.layers] == [layer.name for layer in scene.layers]


@pytest.mark.parametrize("name", PATHS)
@pytest.mark.parametrize("seed", [1, 2])
def test_a_saved_scene_replaces_an_earlier_one(tmp_path, name, seed):
    path = tmp_path / PATHS[name]
    save_scene(make_scene(seed, count=6), path)
    smaller = make_scene(seed, count=2, photo=False)
    save_scene(smaller, path)
    assert load_scene(path).equals(smaller)
    assert not [file for file in tmp_path.rglob("*") if ".partial" in file.name]
    assert not list(tmp_path.rglob("photo.png"))  # of the earlier one
    assert len(list(tmp_path.rglob("*_rgba.png"))) in (0, 2)


def test_same_scene_gives_same_files(tmp_path):
    for name in PATHS.values():
        for folder in ("a", "b"):
            save_scene(make_scene(), tmp_path / folder / name)
    found = sorted(path.relative_to(tmp_path / "a") for path in (tmp_path / "a").rglob("*") if path.is_file())
    assert len(found) > 10
    for file in found:
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes(), file


def test_folder_keeps_other_files_and_has_the_picture(tmp_path, scenes):
    (tmp_path / "notes.txt").write_text("mine")
    scene = scenes["moved"]
    save_scene(scene, tmp_path)
    assert (tmp_path / "notes.txt").read_text() == "mine"
    with Image.open(tmp_path / "render.png") as image:
        assert np.array_equal(np.asarray(image), scene.render(output_type="np"))
    assert (tmp_path / "layers" / "001-cat_rgba.png").is_file()
    with Image.open(tmp_path / "layers" / "001-cat_uncertainty.tif") as image:
        assert np.array_equal(np.asarray(image), scene.layers[1].uncertainty)
    assert load_scene(tmp_path / "scene.json").equals(scene)


@pytest.mark.parametrize("name", scene_formats.NAMES)
@pytest.mark.parametrize("record", [None, "no JSON", '{"format": "another"}'])
def test_what_no_earlier_scene_left_is_neither_replaced_nor_removed(tmp_path, scenes, name, record):
    if record is not None:
        (tmp_path / "scene.json").write_text(record)
    (tmp_path / name).mkdir() if name == "layers" else (tmp_path / name).write_text("mine")
    before = tree(tmp_path)
    for refused in (lambda: check_scene_output(tmp_path), lambda: save_scene(scenes["moved"], tmp_path)):
        with pytest.raises(FileExistsError, match=rf"{tmp_path} holds other files, such as .*; choose a new folder"):
            refused()
    assert tree(tmp_path) == before and (tmp_path / name).exists()


def test_a_photo_beside_a_scene_without_one_is_no_part_of_it(tmp_path):
    save_scene(make_scene(1, count=1, photo=False), tmp_path)
    (tmp_path / "photo.png").write_text("mine")
    with pytest.raises(FileExistsError, match="such as 'photo.png'"):
        save_scene(make_scene(1, count=1), tmp_path)


def test_coco_leaves_what_is_no_picture_of_an_earlier_scene(tmp_path, scenes):
    names = ("photo.png", "layers/a.png", "0123456789abcdef/notes.txt", "fedcba9876543210")
    for name in names:
        (tmp_path / "scene_files" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "scene_files" / name).write_text("mine")
    for case in ("untouched", "moved"):
        save_scene(scenes[case], tmp_path / "scene.json")
    assert all((tmp_path / "scene_files" / name).read_text() == "mine" for name in names)
    assert len(os.listdir(tmp_path / "scene_files")) == 5


def test_folder_layers_painted_over_by_hand_are_read(tmp_path, scenes):
    save_scene(scenes["moved"], tmp_path)
    path = tmp_path / "layers" / "001-cat_rgba.png"
    rgba = 255 - np.asarray(Image.open(path))
    Image.fromarray(rgba).save(path)
    assert np.array_equal(load_scene(tmp_path).layers[1].rgba, rgba)


@pytest.mark.parametrize("name", PATHS)
def test_killed_at_every_step_the_old_scene_or_the_new_one_is_there(tmp_path, name):
    """And the next save sweeps what was left behind."""
    path = tmp_path / PATHS[name]
    old, new = make_scene(1, count=1), make_scene(2, count=1, photo=False)
    found = set()
    for _ in killed_at_every_step(lambda: save_scene(new, path), lambda: save_scene(old, path)):
        read = load_scene(path)
        assert read.equals(old) or read.equals(new)
        found.add(read.equals(new))
    assert found == {False, True}
    rest = tree(tmp_path)
    save_scene(new, tmp_path / "fresh" / PATHS[name])
    assert tree(tmp_path / "fresh") == rest


def test_pictures_of_coco_are_those_that_the_json_names(tmp_path, scenes):
    path = tmp_path / "scene.json"
    for case in ("untouched", "moved"):
        save_scene(scenes[case], path)
        content = json.loads(path.read_text())
        version = content["amodal_diffusion"]["files"]
        assert os.listdir(tmp_path / "scene_files") == [version]
        with Image.open(tmp_path / content["images"][0]["file_name"]) as image:
            assert np.array_equal(np.asarray(image), scenes[case].render(output_type="np"))


def test_coco_of_an_earlier_release_has_its_pictures_in_the_folder_itself(tmp_path, scenes):
    path = tmp_path / "scene.json"
    save_scene(scenes["moved"], path)
    content = json.loads(path.read_text())
    version = tmp_path / "scene_files" / content["amodal_diffusion"].pop("files")
    path.write_text(json.dumps(content))
    for entry in list(version.iterdir()):
        entry.rename(tmp_path / "scene_files" / entry.name)
    assert load_scene(path).equals(scenes["moved"])
    save_scene(scenes["untouched"], path)
    assert load_scene(path).equals(scenes["untouched"]) and len(os.listdir(tmp_path / "scene_files")) == 1


@pytest.mark.skipif(files._LOCKS is None, reason="the system knows no locks of folders")
def test_coco_saved_twice_at_a_time_is_one_of_both_scenes(tmp_path, monkeypatch):
    """The first writer is slow to remove old pictures; the second has its own there by then, and names them next."""
    path, removes, second = tmp_path / "scene.json", scene_formats.coco._remove_other_versions, []
    scenes = [make_scene(seed, count=1) for seed in (1, 2)]

    def removes_late(*arguments):
        if not second:
            second.append(Thread(target=save_scene, args=(scenes[1], path)))
            second[0].start()
            time.sleep(0.4)
        removes(*arguments)

    writes = scene_formats.coco.write_text

    def writes_late(*arguments):
        if second:  # of the second scene
            time.sleep(0.6)
        writes(*arguments)

    monkeypatch.setattr(scene_formats.coco, "_remove_other_versions", removes_late)
    monkeypatch.setattr(scene_formats.coco, "write_text", writes_late)
    save_scene(scenes[0], path)
    second[0].join()
    assert load_scene(path).equals(scenes[1])
    assert len(os.listdir(tmp_path / "scene_files")) == 1


@pytest.mark.parametrize("name", PATHS)
def test_failed_save_leaves_the_earlier_scene(tmp_path, monkeypatch, scenes, name):
    path = tmp_path / PATHS[name]
    save_scene(scenes["untouched"], path)
    monkeypatch.setattr(scene_formats.document, "MAX_LAYERS", 2)
    with pytest.raises(ValueError, match="a scene may have 2 layers at most, got 4"):
        save_scene(scenes["moved"], path)
    monkeypatch.undo()
    assert load_scene(path).equals(scenes["untouched"])


def composed(layers):
    """Pictures (rgba, x, y), back to front, put over each other by Pillow."""
    canvas = Image.new("RGBA", (WIDTH, HEIGHT))
    for rgba, x, y in layers:
        whole = Image.new("RGBA", canvas.size)
        whole.paste(rgba, (x, y))
        canvas = Image.alpha_composite(canvas, whole)
    return np.asarray(canvas)


def ora_layers(path):
    with zipfile.ZipFile(path) as archive:
        (stack,) = scene_formats.open_raster.ElementTree.fromstring(archive.read("stack.xml"))
        for layer in reversed(stack):
            image = Image.open(io.BytesIO(archive.read(layer.get("src"))))
            opacity = float(layer.get("opacity")) * (layer.get("visibility") == "visible")
            yield layer.get("name"), faded(image, opacity), int(layer.get("x")), int(layer.get("y"))


def psd_layers(path):
    for layer in PSDImage.open(path):
        yield layer.name, faded(layer.topil(), layer.opacity / 255 * layer.visible), layer.left, layer.top


def faded(image, opacity):
    image.putalpha(image.getchannel("A").point(lambda alpha: round(alpha * opacity)))
    return image


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize(("suffix", "layers_of"), [("ora", ora_layers), ("psd", psd_layers)])
def test_layers_put_over_each_other_show_the_rendered_scene(tmp_path, scenes, case, suffix, layers_of):
    path = tmp_path / f"scene.{suffix}"
    save_scene(scenes[case], path)
    layers = list(layers_of(path))
    picture = composed([layer[1:] for layer in layers])
    assert (picture[..., 3] == 255).all()
    difference = np.abs(picture[..., :3].astype(int) - scenes[case].render(output_type="np"))
    assert difference.max() <= 4  # rounding of soft edges, one on the other
    assert layers[0][0] == "Background"
    assert np.array_equal(np.asarray(layers[0][1])[..., :3], scenes[case].background)


@pytest.mark.parametrize(("suffix", "layers_of"), [("ora", ora_layers), ("psd", psd_layers)])
def test_objects_are_whole_layers_in_place(tmp_path, scenes, suffix, layers_of):
    scene = scenes["outside"].rename(2, "käfer")
    save_scene(scene, tmp_path / f"scene.{suffix}")
    layers = {name: rest for name, *rest in layers_of(tmp_path / f"scene.{suffix}")}
    for name, index in (("käfer", 2), ("cat", 1)):
        assert np.array_equal(composed([layers[name]]), scene.layer_image(index, output_type="np"))
    assert layers[""][0].size == (1, 1) and layers[""][0].getextrema()[3] == (0, 0)  # the one that lies outside


@pytest.mark.parametrize("suffix", ["ora", "psd"])
def test_other_programs_see_and_may_change_what_is_hidden_faded_and_locked(tmp_path, scenes, suffix):
    scene, path = scenes["states"], tmp_path / f"scene.{suffix}"
    save_scene(scene, path)
    names = ["", "cat", "naïve 猫 🐈"]
    if suffix == "ora":
        with zipfile.ZipFile(path) as archive:
            content = {name: archive.read(name) for name in archive.namelist()}
        stack = scene_formats.open_raster.ElementTree.fromstring(content["stack.xml"])
        found = {layer.get("name"): layer for layer in stack.iter("layer")}
        assert [found[name].get("visibility") for name in names] == ["hidden", "visible", "visible"]
        assert found["cat"].get("opacity") == "0.3" and found[names[2]].get("edit-locked") == "true"
        assert found["cat"].get("edit-locked") is None
        found[""].set("visibility", "visible")
        content["stack.xml"] = scene_formats.open_raster.ElementTree.tostring(stack)
        with zipfile.ZipFile(path, "w") as archive:
            for name, data in content.items():
                archive.writestr(name, data)
    else:
        document = PSDImage.open(path)
        found = {layer.name: layer for layer in document}
        assert [found[name].visible for name in names] == [False, True, True]
        assert found["cat"].opacity == round(0.3 * 255) and found[names[2]].locks.complete
        found[""].visible = True
        document.save(path)
    read = {layer.name: layer for layer in load_scene(path).layers}  # the layers have changed, so they count
    assert read[""].visible and read[""].opacity == 1 and read["cat"].opacity == pytest.approx(0.3, abs=1 / 255)
    assert read[names[2]].locked and not read["cat"].locked


def test_coco_has_nothing_of_a_hidden_layer(tmp_path, scenes):
    save_scene(scenes["states"], tmp_path / "scene.json")
    hidden, faded = COCO(str(tmp_path / "scene.json")).dataset["annotations"][:2]
    assert hidden["area"] == 0 and not decode_rle(hidden["visible_mask"]).any()
    assert faded["area"] == (scenes["states"].layers[1].rgba[..., 3] > 127).sum()
    assert decode_rle(faded["visible_mask"]).sum() > 0.3 * faded["area"]


def test_stack_is_in_order_and_adds_nothing_that_is_not_needed(tmp_path):
    solid = np.full((10, 10, 4), 255, np.uint8)
    mask = np.ones((10, 10), bool)
    layers = [Layer(solid // (k + 1) | 1, mask, mask, None, shift(4 * k, 2), "abc"[k], k) for k in range(3)]
    order = np.array([[0, 1, 0], [-1, 0, 1], [0, -1, 0]], np.int8)
    opaque = [
        Layer(np.maximum(x.rgba, [0, 0, 0, 255]).astype(np.uint8), mask, mask, None, x.transform, x.name, x.id)
        for x in layers
    ]
    save_scene(Scene(np.zeros((20, 30, 3), np.uint8), tuple(opaque), order), tmp_path / "s.ora")
    assert [name for name, *_ in ora_layers(tmp_path / "s.ora")] == ["Background", "c", "b", "a"]
    cyclic = np.array([[0, 1, -1], [-1, 0, 1], [1, -1, 0]], np.int8)
    save_scene(Scene(np.zeros((20, 30, 3), np.uint8), tuple(opaque), cyclic), tmp_path / "c.ora")
    names = [name for name, *_ in ora_layers(tmp_path / "c.ora")]
    assert names[0] == "Background" and names[-1] == "In front in the photo" and sorted(names[1:-1]) == ["a", "b", "c"]


def test_open_raster_follows_the_specification(tmp_path, scenes):
    scene = scenes["rotated"]
    save_scene(scene, tmp_path / "scene.ora")
    with zipfile.ZipFile(tmp_path / "scene.ora") as archive:
        first = archive.infolist()[0]
        assert (first.filename, first.compress_type, first.extra) == ("mimetype", zipfile.ZIP_STORED, b"")
        assert archive.read("mimetype") == b"image/openraster"
        image = scene_formats.open_raster.ElementTree.fromstring(archive.read("stack.xml"))
        assert (image.get("w"), image.get("h"), image.get("version")) == (str(WIDTH), str(HEIGHT), "0.0.3")
        merged = Image.open(io.BytesIO(archive.read("mergedimage.png")))
        assert np.array_equal(np.asarray(merged), scene.render(output_type="np"))
        thumbnail = Image.open(io.BytesIO(archive.read("Thumbnails/thumbnail.png")))
        assert thumbnail.size == (WIDTH, HEIGHT)
    assert (tmp_path / "scene.ora").read_bytes()[30:38] == b"mimetype"  # where `file` looks for it


def test_thumbnail_is_small(tmp_path):
    save_scene(Scene(np.zeros((300, 600, 3), np.uint8)), tmp_path / "scene.ora")
    with zipfile.ZipFile(tmp_path / "scene.ora") as archive:
        assert Image.open(io.BytesIO(archive.read("Thumbnails/thumbnail.png"))).size == (256, 128)


@pytest.mark.parametrize("case", ["untouched", "cycle", "rotated"])
def test_flattened_photoshop_picture_is_the_rendered_scene(tmp_path, scenes, case):
    save_scene(scenes[case], tmp_path / "scene.psd")
    with Image.open(tmp_path / "scene.psd") as image:
        assert image.mode == "RGB"
        assert np.array_equal(np.asarray(image), scenes[case].render(output_type="np"))


def test_coco_annotations_tell_what_is_seen(tmp_path, scenes):
    scene = scenes["moved"]
    path = tmp_path / "scene.json"
    save_scene(scene, path)
    coco = COCO(str(path))
    (image,) = coco.dataset["images"]
    rendered = np.asarray(Image.open(tmp_path / image["file_name"]))
    assert (image["width"], image["height"]) == (WIDTH, HEIGHT)
    assert np.array_equal(rendered, scene.render(output_type="np"))
    images = [scene.layer_image(index, output_type="np") for index in range(len(scene))]
    soft = np.logical_or.reduce([(image[..., 3] > 0) & (image[..., 3] < 255) for image in images])
    whole = np.stack([coco.annToMask(annotation) for annotation in coco.dataset["annotations"]]).astype(bool)
    for index, annotation in enumerate(coco.dataset["annotations"]):
        alone = images[index]
        assert np.array_equal(whole[index], alone[..., 3] > 127)
        assert annotation["bbox"] == mask_boxes(whole)[index].tolist()
        assert annotation["area"] == mask_areas(whole)[index]
        assert annotation["name"] == scene.layers[index].name
        visible = decode_rle(annotation["visible_mask"])
        assert not (visible & ~whole[index]).any()
        opaque = visible & ~soft
        assert opaque.any() and np.array_equal(rendered[opaque], alone[opaque][:, :3])
        assert annotation["occlude_rate"] == pytest.approx(1 - visible.sum() / whole[index].sum(), abs=1e-6)
    relations = {(r["front"] - 1, r["behind"] - 1) for r in image["order_relations"]}
    assert relations == {tuple(pair) for pair in np.argwhere(scene.order == 1)}


def test_coco_of_an_untouched_scene_has_the_visible_masks_of_the_photo(tmp_path):
    scene = make_scene(5)
    save_scene(scene, tmp_path / "scene.json")
    annotations = json.loads((tmp_path / "scene.json").read_text())["annotations"]
    for layer, annotation in zip(scene.layers, annotations, strict=True):
        x, y = layer.transform[:, 2].astype(int)
        height, width = layer.modal.shape
        visible = decode_rle(annotation["visible_mask"])
        assert np.array_equal(visible[y : y + height, x : x + width] & layer.modal, layer.modal)
        extra = visible.copy()
        extra[y : y + height, x : x + width] &= ~layer.modal
        assert extra.sum() <= 0.02 * visible.sum()  # where a hidden pixel has the photo's colour by chance


# Names of formats


@pytest.mark.parametrize(
    ("path", "name"), [("a", "folder"), ("a.ora", "ora"), ("a.PSD", "psd"), ("b/a.json", "coco"), ("..", "folder")]
)
def test_suffix_names_the_format(path, name):
    assert scene_format(path) is FORMATS[name]


def test_format_can_be_given(tmp_path):
    scene = make_scene()
    save_scene(scene, tmp_path / "scene.v1", format="folder")
    assert load_scene(tmp_path / "scene.v1").equals(scene)  # it is a folder, whatever the dot says
    with pytest.raises(ValueError, match="`format` must be one of 'folder', 'ora', 'psd', 'coco', got 'svg'"):
        save_scene(scene, tmp_path / "scene", format="svg")


def test_unknown_suffix_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"scene\.gif: scenes are saved as \.ora, \.psd, \.json or into a folder"):
        save_scene(make_scene(), tmp_path / "scene.gif")
    (tmp_path / "scene.gif").write_bytes(b"GIF89a")
    with pytest.raises(ValueError, match=r"got \.gif"):
        load_scene(tmp_path / "scene.gif")


def test_missing_scenes_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"scene .*none\.ora does not exist"):
        load_scene(tmp_path / "none.ora")
    with pytest.raises(FileNotFoundError, match=r"folder .* holds no scene\.json"):
        load_scene(tmp_path)


def test_unwritable_outputs_are_found_early(tmp_path):
    (tmp_path / "file").write_text("")
    (tmp_path / "folder.ora").mkdir()
    for path in ("new", "new.ora", "a/b/new.psd", "new.json"):
        check_scene_output(tmp_path / path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder.ora"]
    with pytest.raises(NotADirectoryError, match="is a file, expected a folder"):
        check_scene_output(tmp_path / "file" / "scene.ora")
    with pytest.raises(NotADirectoryError, match="is a file, expected a folder"):
        check_scene_output(tmp_path / "file")
    with pytest.raises(IsADirectoryError):
        check_scene_output(tmp_path / "folder.ora", format="ora")
    with pytest.raises(ValueError, match="scenes are saved as"):
        check_scene_output(tmp_path / "a.gif")


def test_coco_without_a_writable_folder_beside_it_is_refused(tmp_path):
    (tmp_path / "scene_files").write_text("mine")
    with pytest.raises(NotADirectoryError, match="scene_files"):
        check_scene_output(tmp_path / "scene.json")
    with pytest.raises(NotADirectoryError, match="scene_files"):
        save_scene(make_scene(), tmp_path / "scene.json")
    assert (tmp_path / "scene_files").read_text() == "mine"
