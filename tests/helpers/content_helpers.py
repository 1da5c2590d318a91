"""Small content pipelines and networks that answer by a rule."""

import numpy as np
import torch

from amodal_diffusion import ContentPipeline, PCNetContent
from amodal_diffusion.images import denormalize_images, normalize_images
from amodal_diffusion.models.pcnet_content import PCNetContentOutput


def tiny_content_model(seed=0, **config):
    torch.manual_seed(seed)
    return PCNetContent(**{"block_out_channels": (4, 6, 8), "sample_size": 64, **config}).eval()


def tiny_content(model=None, **settings):
    pipeline = ContentPipeline(model or tiny_content_model(), **{"background_size": 64, **settings})
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


class Painter(PCNetContent):
    """Paints one colour everywhere, or with `cast` the picture itself shifted by a colour; keeps what it was shown."""

    colour = (1.0, 0.0, 0.0)
    cast = None
    seen = None

    def forward(self, image, visible, mask=None, category_ids=None, return_dict=True):
        self.seen.append({"image": image, "visible": visible > 0, "mask": mask, "category_ids": category_ids})
        if self.cast is not None:
            # It knows what is hidden too, but for a cast: a network without any other fault.
            painted = denormalize_images(image) + torch.tensor(self.cast).view(3, 1, 1)
        else:
            painted = torch.tensor(self.colour).view(1, 3, 1, 1).expand_as(image)
        return PCNetContentOutput(normalize_images(painted))


def painter(cast=None, colour=(1.0, 0.0, 0.0), sample_size=64, use_mask=True, class_conditioned=False, **settings):
    """A pipeline around a `Painter`; `pipeline.model.seen` has the inputs of each pass."""
    model = Painter((4, 4, 4), sample_size=sample_size, use_mask=use_mask, class_conditioned=class_conditioned).eval()
    model.cast, model.colour, model.seen = cast, colour, []
    return tiny_content(model, **settings)


def smooth_photo(height=60, width=80):
    """Colours that change slowly."""
    rows, columns = np.mgrid[:height, :width]
    planes = [60 + 1.2 * columns, 200 - 1.5 * rows, 100 + 0.8 * rows + 0.3 * columns]
    return np.stack(planes, axis=2).round().astype(np.uint8)


def tile_of(photo, mask, box):
    """Photo and mask within a box (x, y, w, h)."""
    x, y, width, height = box
    return photo[y : y + height, x : x + width], mask[y : y + height, x : x + width]


def check_tiles(output, picture, modal, amodal):
    """What holds for every answer: tight boxes, the photo where it is seen, transparent outside."""
    for tile, box, seen, whole in zip(output.objects, output.boxes, modal, amodal | modal, strict=True):
        rows, columns = whole.any(axis=1).nonzero()[0], whole.any(axis=0).nonzero()[0]
        assert box.tolist() == [columns[0], rows[0], np.ptp(columns) + 1, np.ptp(rows) + 1]
        colours, visible = tile_of(picture, seen, box)
        _, inside = tile_of(picture, whole, box)
        assert tile.dtype == np.uint8 and tile.shape == (*visible.shape, 4)
        np.testing.assert_array_equal(tile[visible][:, :3], colours[visible])
        np.testing.assert_array_equal(tile[..., 3], inside * 255)
        assert not tile[~inside].any()


class LocalFeatures(torch.nn.Module):
    """In Inception's place: means and spreads of the channels."""

    num_features = 6

    def forward(self, pictures):
        pictures = pictures.float()
        return torch.cat([pictures.mean((2, 3)), pictures.std((2, 3))], dim=1)
