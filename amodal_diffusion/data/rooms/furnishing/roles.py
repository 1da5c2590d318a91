"""Which part a piece of furniture can play in a room, judged by its name, its size and how it is mounted."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Literal

from .catalogue import FurnitureItem

Role = Literal[
    "seat", "sofa", "table", "bed", "storage", "counter", "floor", "mounted", "opening", "ceiling", "rug", "small"
]
ROLES: tuple[Role, ...] = (
    "seat", "sofa", "table", "bed", "storage", "counter", "floor", "mounted", "opening", "ceiling", "rug", "small",
)  # fmt: skip

_OUTDOORS = re.compile(
    r"^sitting|"  # people who would sit on air
    r"truck|bus\b|car\b|van\b|suv|seat leon|renault|peugeot|chevrolet|train|rail|crossing|parking|arrow|pool$|swimming|"
    r"street|hedge|fence|goal|barnum|garden|hut|tent|jacuzzi|escalator|stair|elevator|garage|container|umbrella|"
    r"plug|switch|socket|antenna|diving|mower|tree|pine|palm|poplar|maple|beech|cypress|acacia|bamboo|blossom|"
    r"chimney|hot tub|boat|plane|helicopter|tank|satellite|mailbox|letters box|seesaw|swing|slide|sandpit|trampoline|"
    r"park light|lantern|pillar|column|balcony|pergola|gate|jeep|limousine|pickup|tractor|submarine|ship|fork lift|"
    r"wheelbarrow|deck chair|beach chair|rock$|outdoor|traffic|stop sign|hydrant|gas pump|barbecue|dog house|"
    r"horse$|cow|railing|curtain rod|shower|bathtub|bath\b|urinal|toilets unit|toilet brush|water heater|"
    r"smoke detector|intercom|cctv|"
    r"emergency|extinguisher|hammock|mezzanine|upper corner cabinet|island|hood|bush|punching|shutter|blind|well\b"
)
_KEPT = re.compile(r"christmas tree|bonsai")
_SOFA = re.compile(r"sofa|couch|settee|loveseat|futon|divan|day bed")
_SEAT = re.compile(r"chair|stool|bench|puff|ottoman|armchair|seat\b|pouf")
_NO_SEAT = re.compile(r"wheel|rocking horse|high chair")
_TABLE = re.compile(r"table|desk|workbench")
_NO_TABLE = re.compile(r"lamp|football|pool|tennis|fan|bedside|dressing|changing|cloth$|tablet|night")
_BED = re.compile(r"\bbed\b|crib|iron bed|captain")
_STORAGE = re.compile(
    r"bookcase|bookshel|shel[fv]|cupboard|wardrobe|cabinet|dresser|chest|drawer|fridge|refrigerator|sideboard|"
    r"bedside|night ?stand|armoire|closet|locker|hutch|buffet|dressing table|changing table|television|tv stand|"
    r"fireplace|piano|aquarium|credenza|box$|contemporary living|jukebox|flipper|football table|furnace|console"
)
_COUNTER = re.compile(
    r"oven|stove|washing|dryer|dishwasher|sink|cooker|counter|lower cabinet|freezer|washbasin|vanity|lavatory"
)
_RUG = re.compile(r"carpet|rug|tatami|doormat|mat$")
_CEILING = re.compile(r"ceiling|chandelier|pendant|projector")


def role_of(item: FurnitureItem) -> Role | None:
    """The part that an item plays in a room; None for what does not belong in one.

    Example:
        >>> chair = FurnitureItem("library", 1, "Oak chair", "Living room", (0.5, 1.1, 0.6), 0.0, False, "", None, "")
        >>> role_of(chair)
        'seat'
    """
    name = item.name.lower()
    width, height, depth = item.size
    across = max(width, depth)
    if item.on_wall:
        return "opening" if across < 2.2 and height < 2.4 and "garage" not in name and "elevator" not in name else None
    if _OUTDOORS.search(name) and not _KEPT.search(name):
        return None
    if across > 3.2 or height > 2.35 or min(width, depth) < 0.004 or item.category == "Vehicles" and across > 1.6:
        return None
    if item.elevation > 0.15:
        if _CEILING.search(name) or item.elevation > 1.7 and across < 1.6 and "cabinet" not in name:
            return "ceiling"
        return "mounted" if depth < 0.6 and across < 2.0 else None
    if _RUG.search(name) and height < 0.08:
        return "rug"
    return _standing_role(name, width, height, depth)


def _standing_role(name: str, width: float, height: float, depth: float) -> Role | None:
    across = max(width, depth)
    if _SOFA.search(name) and across > 1.1:
        return "sofa"
    if _SEAT.search(name) and not _NO_SEAT.search(name) and 0.3 < height < 1.4 and across > 0.25:
        return "seat" if across < 1.25 else "sofa"
    if _BED.search(name) and across > 1.0:
        return "bed"
    if _TABLE.search(name) and not _NO_TABLE.search(name) and across > 0.4 and 0.25 < height < 1.3:
        return "table"
    if _COUNTER.search(name) and across > 0.4 and height > 0.4:
        return "counter"
    if _STORAGE.search(name) and across > 0.3 and height > 0.3:
        return "storage"
    if across < 0.62 and height < 0.62:
        return "small"
    if height >= 0.2 and across < 1.7:
        return "floor"
    return None


def by_role(items: Iterable[FurnitureItem]) -> dict[Role, list[FurnitureItem]]:
    """Items by the part they play; every role has a list, which may be empty.

    Example:
        >>> item = FurnitureItem("mine", 1, "Oak chair", "Office", (0.5, 0.9, 0.5), 0.0, False, "chair.obj", None, "")
        >>> [chair.name for chair in by_role([item])["seat"]]
        ['Oak chair']
    """
    sorted_items: dict[Role, list[FurnitureItem]] = {role: [] for role in ROLES}
    for item in items:
        role = role_of(item)
        if role is not None:
            sorted_items[role].append(item)
    return sorted_items
