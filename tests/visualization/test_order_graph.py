"""Pictures of the order: arrows, nodes, sizes, errors."""

import numpy as np
import pytest

from amodal_diffusion.visualization import draw_order_graph, order_graph, palette
from amodal_diffusion.visualization._drawing import INK, Frame, mix


def pixels(picture):
    return np.asarray(picture).astype(int)


class TestOrderGraph:
    order = np.array([[0, 1], [-1, 0]])

    @pytest.mark.parametrize("front", [0, 1])
    def test_arrow_runs_from_the_occluder(self, front):
        order = self.order if front == 0 else -self.order
        drawn = pixels(draw_order_graph(order, size=600, legend=False))
        arrow = [(drawn == mix(colour, INK, 0.3)).all(axis=2) for colour in palette(2)]
        between = slice(200, 400)  # the nodes lie above and below it
        assert arrow[front][between].any()
        assert not arrow[1 - front][between].any()
        # the head is the wide end of the arrow
        wide = [row.sum() for row in (arrow[front][120:200], arrow[front][400:480])]
        assert wide[1 - front] > wide[front]

    def test_without_relation_no_arrow(self):
        drawn = pixels(draw_order_graph(np.zeros((2, 2), int), size=600, legend=False))
        assert (drawn[200:400] == 255).all()

    def test_cycle(self):
        cycle = np.array([[0, 1, -1], [-1, 0, 1], [1, -1, 0]])
        drawn = pixels(draw_order_graph(cycle, size=300))
        assert all((drawn == mix(colour, INK, 0.3)).all(axis=2).any() for colour in palette(3))

    def test_nodes_lie_on_their_objects(self, photo, masks):
        modal, _ = masks
        drawn = pixels(draw_order_graph(self.order, names=["front", "back"], masks=modal, image=photo, size=900))
        for index, colour in enumerate(palette(2)):
            rows, columns = np.nonzero((drawn[:600] == colour).all(axis=2))
            assert modal[index, int(rows.mean() / 10), int(columns.mean() / 10)]

    def test_sizes(self, photo, masks):
        assert draw_order_graph(self.order, masks=masks[0], size=300, legend=False).size == (300, 200)
        assert draw_order_graph(self.order, size=300, legend=False).size == (300, 300)
        assert draw_order_graph(np.zeros((0, 0), int), size=300, legend=False).size == (300, 300)

    def test_nodes_on_one_spot_part(self):
        same = np.zeros((5, 60, 90), bool)
        same[:, 20:40, 30:50] = True
        frame = Frame.for_photo((90, 60), 900)
        places = order_graph._node_places(frame, 5, same)
        distance = np.linalg.norm(places[:, None] - places[None], axis=2) + 1e3 * np.eye(5)
        assert distance.min() > 2 * order_graph._node_radius(frame, 5)
        assert (places >= 0).all()
        assert (places <= (900, 600)).all()

    def test_empty_mask_keeps_its_place(self, photo, masks):
        modal = np.zeros_like(masks[0])
        assert draw_order_graph(self.order, masks=modal, image=photo, size=300).width == 300

    def test_errors(self, photo, masks):
        with pytest.raises(ValueError, match="order"):
            draw_order_graph(np.array([[0, 1], [1, 0]]))
        with pytest.raises(ValueError, match="order"):
            draw_order_graph(np.zeros((2, 3), int))
        with pytest.raises(ValueError, match="order"):
            draw_order_graph(3)
        with pytest.raises(ValueError, match="masks must be given with image"):
            draw_order_graph(self.order, image=photo)
        with pytest.raises(ValueError, match="masks must hold one mask for each of the 2 objects of order, got 1"):
            draw_order_graph(self.order, masks=masks[0][:1])
        with pytest.raises(ValueError, match="names must be a sequence of 2 strings"):
            draw_order_graph(self.order, names=["a", "b", "c"])
        with pytest.raises(ValueError, match=r"`size` must lie in \[64, 16384\], got 63"):
            draw_order_graph(self.order, size=63)
