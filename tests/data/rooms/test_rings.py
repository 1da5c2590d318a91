"""Two things that hide each other and three in a ring, found in rendered rooms (`demos/show_rings.py`)."""

import json

import numpy as np
import pytest

from amodal_diffusion.data import record_masks, record_order
from amodal_diffusion.data.rooms import find_cycles, record_occlusions
from amodal_diffusion.ordering import ancestors, hidden_overlaps, order_from_masks
from repository_helpers import ROOT


@pytest.fixture(scope="module")
def rows():
    text = (ROOT / "datasets" / "rooms-amodal" / "rings.json").read_text(encoding="utf-8")
    return {row["image_id"].split("-")[0]: row for row in json.loads(text)}


def named(row, *names):
    """Indices of the objects that hide each other, by name; there are other chairs in the room."""
    found = [thing["name"] for thing in row["objects"]]
    (group,) = [
        group
        for group in (*find_cycles(record_occlusions(row).astype(int)).cycles, *pairs(row))
        if sorted(found[index] for index in group) == sorted(names)
    ]
    return sorted(group, key=lambda index: names.index(found[index]))


def pairs(row):
    return find_cycles(record_occlusions(row).astype(int)).mutual


def test_a_ring_is_in_the_order_matrix(rows):
    row = rows["ring"]
    table, chair, stool = ring = named(row, "table", "chair", "stool")
    order = record_order(row)
    assert order[np.ix_(ring, ring)].tolist() == [[0, 1, -1], [-1, 0, 1], [1, -1, 0]]
    # The masks alone say the same, and what lies in front of each is each of the others.
    modal, amodal = record_masks(row)
    hidden = hidden_overlaps(modal, amodal)
    assert min(hidden[table, chair], hidden[chair, stool], hidden[stool, table]) > 500
    by_masks = order_from_masks(modal, amodal)
    assert by_masks[table, chair] == by_masks[chair, stool] == by_masks[stool, table] == 1
    before = ancestors(order)
    assert all(before[one, other] for one in ring for other in ring if one != other)


def test_a_pair_that_hides_each_other_has_no_order(rows):
    row = rows["pair"]
    table, chair = named(row, "technical table", "chair")
    over = record_occlusions(row)
    assert over[table, chair] and over[chair, table]
    assert record_order(row)[table, chair] == 0
    modal, amodal = record_masks(row)
    hidden = hidden_overlaps(modal, amodal)
    assert min(hidden[table, chair], hidden[chair, table]) > 500
