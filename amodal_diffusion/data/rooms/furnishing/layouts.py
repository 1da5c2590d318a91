"""Furnished rooms: what stands where. Furniture along walls and around tables, small objects on tables and shelves.

Nothing goes through anything else, and everything stands on something, hangs on a wall or from the ceiling. A layout is
a function of the random generator and the items alone. Coordinates are metres, y up, the floor at y = 0 and the room's
middle at x = z = 0; a piece of furniture looks along +z before it is turned.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from ..meshes import Material, ObjectMesh, PlacedObject, repainted
from .catalogue import FurnitureItem, FurnitureLibrary
from .roles import Role, by_role

GAP = 0.004
"""Metres by which boxes may touch."""
_CELL = 0.025
_FINE_PAIRS = {"seat", "small", "rug", "floor"}
"""Roles that may stand inside another's box as long as the surfaces stay apart, as a chair under a table does."""


@dataclass(frozen=True, eq=False)
class Placement:
    """A piece of furniture in a room.

    Attributes:
        item: what it is.
        role: the part that it plays.
        placed: its mesh and where it stands.

    Example:
        >>> item = FurnitureItem("mine", 1, "Oak chair", "Office", (0.5, 0.9, 0.5), 0.0, False, "chair.obj", None, "")
        >>> placed = PlacedObject(ObjectMesh("chair", np.eye(3), np.array([[0, 1, 2]])))
        >>> Placement(item, "seat", placed).placed.bounds[1].tolist()
        [1.0, 1.0, 1.0]
    """

    item: FurnitureItem
    role: Role
    placed: PlacedObject


@dataclass(frozen=True, eq=False)
class RoomLayout:
    """A furnished room.

    Attributes:
        size: (width, height, depth) in metres.
        placements: its furniture.

    Example:
        >>> RoomLayout(size=(4.0, 2.5, 5.0), placements=()).size
        (4.0, 2.5, 5.0)
    """

    size: tuple[float, float, float]
    placements: tuple[Placement, ...]


@dataclass(frozen=True)
class RoomPlan:
    """How many of each kind a room tries to get; a pair is a range from which the number is drawn.

    Example:
        >>> RoomPlan("study", tables=(1, 1)).name
        'study'
    """

    name: str
    walls: tuple[tuple[Role, int, int], ...] = ()
    tables: tuple[int, int] = (0, 1)
    seats: tuple[int, int] = (2, 5)
    loose: tuple[int, int] = (1, 4)
    mounted: tuple[int, int] = (0, 3)
    small: tuple[int, int] = (3, 10)
    size: tuple[float, float] = (3.2, 5.5)


PLANS = (
    RoomPlan("living", (("sofa", 1, 2), ("storage", 1, 3), ("seat", 0, 2)), (1, 1), (0, 3), (2, 5), small=(4, 12)),
    RoomPlan("dining", (("storage", 1, 3), ("sofa", 0, 1)), (1, 2), (3, 7), (0, 3), small=(6, 14)),
    RoomPlan("bedroom", (("bed", 1, 1), ("storage", 2, 4)), (0, 1), (0, 2), (2, 5), small=(4, 12)),
    RoomPlan("kitchen", (("counter", 2, 4), ("storage", 1, 2)), (1, 1), (2, 5), (0, 2), (1, 4), (8, 16)),
    RoomPlan("study", (("storage", 2, 4), ("table", 1, 2), ("seat", 0, 1)), (0, 1), (1, 4), (1, 4), small=(6, 14)),
    RoomPlan("store", (("storage", 2, 4), ("counter", 0, 2)), (0, 2), (1, 5), (5, 10), (0, 2), (4, 12)),
    RoomPlan("table", (("storage", 0, 2),), (1, 1), (1, 5), (0, 1), (0, 1), (10, 20), (2.6, 4.0)),
)


def furnish(
    library: FurnitureLibrary,
    items: Sequence[FurnitureItem],
    random: np.random.Generator,
    *,
    plan: RoomPlan | None = None,
    max_objects: int = 36,
) -> RoomLayout:
    r"""Furnish a room.

    Args:
        library: gives the models.
        items: what may be used.
        random: where chance comes from.
        plan: kind of room; drawn from `PLANS` where None.
        max_objects: pieces of furniture at most.

    Returns:
        A room with at least one piece; fewer than the plan says where no place is found for more.

    Raises:
        ValueError: no item plays any part in a room.

    Example:
        >>> import tempfile, zipfile
        >>> from pathlib import Path
        >>> keys = ("name", "category", "width", "depth", "height", "model")
        >>> values = ("Oak table", "Office", 120, 80, 75, "/table.obj")
        >>> catalogue = "\n".join(f"{key}#1={value}" for key, value in zip(keys, values))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     with zipfile.ZipFile(Path(folder) / "mine.sh3f", "w") as archive:
        ...         archive.writestr("PluginFurnitureCatalog.properties", catalogue)
        ...         archive.writestr("table.obj", "v 0 0 0\nv 1 0 0\nv 0 0 1\nv 1 1 1\nf 1 2 4\nf 2 3 4\nf 3 1 4\n")
        ...     library = FurnitureLibrary(folder)
        ...     layout = furnish(library, library.items, np.random.default_rng(0), plan=RoomPlan("one", tables=(1, 1)))
        >>> [(place.item.name, place.role) for place in layout.placements]
        [('Oak table', 'table')]
    """
    roles = by_role(items)
    if not any(roles.values()):
        raise ValueError(f"items must have something that belongs in a room, got {len(items)} that do not")
    plan = plan or PLANS[int(random.integers(len(PLANS)))]
    for _ in range(20):
        low, high = plan.size
        size = (random.uniform(low, high), random.uniform(2.3, 2.8), random.uniform(low, high))
        furnisher = _Furnisher(library, roles, random, size, max_objects)
        furnisher.fill(plan)
        if furnisher.placements:
            return RoomLayout(size, tuple(furnisher.placements))
    raise ValueError(f"items must fit into a room of {plan.size[1]} metres, got none that does")


class _Furnisher:
    """Fills one room; every step tries a few places and gives up."""

    def __init__(
        self,
        library: FurnitureLibrary,
        roles: dict[Role, list[FurnitureItem]],
        random: np.random.Generator,
        size: tuple[float, float, float],
        max_objects: int,
    ) -> None:
        self.library, self.roles, self.random, self.size, self.max_objects = library, roles, random, size, max_objects
        self.placements: list[Placement] = []

    def count(self, pair: tuple[int, int]) -> int:
        return int(self.random.integers(pair[0], pair[1] + 1))

    def fill(self, plan: RoomPlan) -> None:
        if self.random.random() < 0.6:
            self.by_wall("opening", self.count((1, 2)))
        for role, low, high in plan.walls:
            self.by_wall(role, self.count((low, high)))
        for _ in range(self.count(plan.tables)):
            self.table_with_seats(self.count(plan.seats))
        if self.random.random() < 0.4:
            self.anywhere("rug", 1)
        self.anywhere("floor", self.count(plan.loose))
        self.by_wall("mounted", self.count(plan.mounted))
        self.from_ceiling(self.random.random() < 0.4)
        self.on_tops(self.count(plan.small))

    # One object

    def draw(self, role: Role) -> tuple[FurnitureItem, ObjectMesh, np.ndarray] | None:
        """An item of a role, its mesh in colours of its own, and a (3,) scale."""
        choices = self.roles[role]
        for _ in range(3):
            if not choices:
                return None
            item = choices[int(self.random.integers(len(choices)))]
            mesh = self.library.load(item)
            if mesh is not None:
                spread = 0.12 if role == "small" else 0.06
                return item, self.paint(mesh), np.full(3, self.random.uniform(1 - spread, 1 + spread))
        return None

    def paint(self, mesh: ObjectMesh) -> ObjectMesh:
        """Other colours, so that no two rooms have the same chair: tinted, lighter or darker."""
        if self.random.random() < 0.3:
            return mesh
        textured = any(material.texture is not None for material in mesh.materials)
        hue, value = (0.07, 0.12) if textured else (0.13, 0.3)
        shift = self.random.normal(0, hue, 3) + self.random.normal(0, value)
        factor = np.exp(np.clip(shift, -0.7, 0.5))

        def tinted(material: Material) -> Material:
            color = np.clip((np.array(material.color) + 0.02) * factor, 0.03, 1.0)
            return replace(material, color=(float(color[0]), float(color[1]), float(color[2])))

        return repainted(mesh, [tinted(material) for material in mesh.materials])

    def pose(self, x: float, y: float, z: float, angle: float, scale: np.ndarray) -> np.ndarray:
        matrix = np.eye(4)
        cos, sin = math.cos(angle), math.sin(angle)
        matrix[:3, :3] = np.array([[cos, 0, sin], [0, 1, 0], [-sin, 0, cos]]) * scale
        matrix[:3, 3] = x, y, z
        return matrix

    def add(self, item: FurnitureItem, role: Role, placed: PlacedObject, support: PlacedObject | None = None) -> bool:
        if len(self.placements) >= self.max_objects or not self.is_free(role, placed, support):
            return False
        self.placements.append(Placement(item, role, placed))
        return True

    def is_free(self, role: Role, placed: PlacedObject, support: PlacedObject | None) -> bool:
        low, high = placed.bounds
        half = np.array([self.size[0] / 2, 0, self.size[2] / 2])
        if (low[[0, 2]] < -half[[0, 2]]).any() or (high[[0, 2]] > half[[0, 2]]).any() or high[1] > self.size[1]:
            return False
        for other in self.placements:
            if other.role == "rug" and role != "rug":
                continue  # as thin as it is, it may be trodden on
            if not boxes_meet(placed.bounds, other.placed.bounds):
                continue
            fine = role in _FINE_PAIRS or other.role in ("seat", "small")
            if not fine or surfaces_meet(placed, other.placed, lift=0.03 if other.placed is support else 0.0):
                return False
        return True

    # Places

    def by_wall(self, role: Role, count: int) -> None:
        for _ in range(count):
            drawn = self.draw(role)
            if drawn is None:
                return
            item, mesh, scale = drawn
            if role == "opening":  # a frame as thick as its wall would stand in the room
                scale = np.array([scale[0], scale[1], min(1.0, 0.07 / max(item.size[2], 0.01))])
            for _ in range(10):
                placed = self.wall_place(item, mesh, scale, role)
                if placed is not None and self.add(item, role, placed):
                    if role in ("table", "sofa") and self.random.random() < 0.6:
                        self.seats_around(placed, 1)
                    break

    def wall_place(self, item: FurnitureItem, mesh: ObjectMesh, scale: np.ndarray, role: Role) -> PlacedObject | None:
        side = int(self.random.integers(4))
        angle = (0.0, math.pi / 2, math.pi, -math.pi / 2)[side]  # looking along +z, +x, -z, -x
        length = self.size[0] if side % 2 == 0 else self.size[2]
        distance = (self.size[2] if side % 2 == 0 else self.size[0]) / 2
        width, depth = item.size[0] * scale[0], item.size[2] * scale[2]
        if width > length or depth > 2 * distance:
            return None
        gap = 0.003 if role in ("mounted", "opening") else float(self.random.uniform(0.005, 0.06))
        along = float(self.random.uniform(-(length - width) / 2, (length - width) / 2))
        out = distance - depth / 2 - gap
        ahead = np.array([math.sin(angle), math.cos(angle)])  # (x, z)
        right = np.array([math.cos(angle), -math.sin(angle)])
        x, z = -ahead * out + right * along
        y = item.elevation * float(self.random.uniform(0.9, 1.05))
        if role == "mounted":
            y = min(y, self.size[1] - item.size[1] * scale[1] - 0.02)
        return PlacedObject(mesh, self.pose(x, y if role in ("mounted", "opening") else 0.0, z, angle, scale))

    def table_with_seats(self, seats: int) -> None:
        drawn = self.draw("table")
        if drawn is None:
            return
        item, mesh, scale = drawn
        for _ in range(10):
            reach = np.maximum(np.array([self.size[0], self.size[2]]) / 2 - 0.8, 0.1)
            x, z = self.random.uniform(-reach, reach)
            angle = float(self.random.integers(4)) * math.pi / 2 + self.random.normal(0, 0.08)
            placed = PlacedObject(mesh, self.pose(x, 0.0, z, angle, scale))
            if self.add(item, "table", placed):
                self.seats_around(placed, seats)
                return

    def seats_around(self, table: PlacedObject, count: int) -> None:
        """Seats of one kind, most of them, that look at a table and stand under it by half."""
        drawn = self.draw("seat")
        middle = table.to_world[:3, 3]
        half = (table.mesh.bounds[1] - table.mesh.bounds[0])[[0, 2]] * np.linalg.norm(table.to_world[:3, 0]) / 2
        turn = math.atan2(table.to_world[0, 2], table.to_world[2, 2])
        for _ in range(count):
            if drawn is None or self.random.random() < 0.15:
                drawn = self.draw("seat")
            if drawn is None:
                return
            item, mesh, scale = drawn
            for _ in range(6):
                side = int(self.random.integers(4))
                angle = turn + side * math.pi / 2  # where the side looks
                reach = half[1] if side % 2 == 0 else half[0]
                width = half[0] if side % 2 == 0 else half[1]
                depth = item.size[2] * scale[2]
                out = reach + depth * float(self.random.uniform(-0.15, 0.8))
                along = float(self.random.uniform(-1, 1)) * max(width - item.size[0] / 2, 0.0)
                x = middle[0] + math.sin(angle) * out + math.cos(angle) * along
                z = middle[2] + math.cos(angle) * out - math.sin(angle) * along
                facing = angle + math.pi + self.random.normal(0, 0.25)
                if self.add(item, "seat", PlacedObject(mesh, self.pose(x, 0.0, z, facing, scale))):
                    break

    def anywhere(self, role: Role, count: int) -> None:
        for _ in range(count):
            drawn = self.draw(role)
            if drawn is None:
                return
            item, mesh, scale = drawn
            for _ in range(8):
                reach = np.array([self.size[0], self.size[2]]) / 2 - 0.2
                x, z = self.random.uniform(-reach, reach)
                if role == "floor" and self.random.random() < 0.5:  # rather near a wall
                    axis = int(self.random.integers(2))
                    edge = reach[axis] * (1 if self.random.random() < 0.5 else -1) * self.random.uniform(0.75, 1.0)
                    x, z = (edge, z) if axis == 0 else (x, edge)
                angle = float(self.random.uniform(0, 2 * math.pi))
                if role == "rug":
                    angle = float(self.random.integers(4)) * math.pi / 2
                if self.add(item, role, PlacedObject(mesh, self.pose(x, 0.0, z, angle, scale))):
                    break

    def from_ceiling(self, wanted: bool) -> None:
        drawn = self.draw("ceiling") if wanted else None
        if drawn is None:
            return
        item, mesh, scale = drawn
        x, z = self.random.uniform(-0.3, 0.3, 2) * (self.size[0], self.size[2])
        y = self.size[1] - item.size[1] * scale[1] - 0.002
        self.add(item, "ceiling", PlacedObject(mesh, self.pose(x, y, z, float(self.random.uniform(0, 6.28)), scale)))

    def on_tops(self, count: int) -> None:
        supports = [
            place for place in self.placements if place.role in ("table", "storage", "counter", "seat", "bed", "sofa")
        ]
        if not supports:
            return
        weights = np.array([_SUPPORT_WEIGHTS[place.role] for place in supports])
        busiest = int(self.random.choice(len(supports), p=weights / weights.sum()))
        for _ in range(count):
            drawn = self.draw("small")
            if drawn is None:
                return
            item, mesh, scale = drawn
            for attempt in range(8):
                index = busiest if attempt < 3 else int(self.random.choice(len(supports), p=weights / weights.sum()))
                support = supports[index]
                angle = float(self.random.uniform(0, 2 * math.pi))
                placed = self.drop(mesh, scale, angle, support.placed, item.size)
                if placed is not None and self.add(item, "small", placed, support.placed):
                    break

    def drop(
        self, mesh: ObjectMesh, scale: np.ndarray, angle: float, support: PlacedObject, size: Sequence[float]
    ) -> PlacedObject | None:
        """An object let down onto a support, from above it or between its shelves; None where it would not stand."""
        low, high = support.bounds
        x, z = self.random.uniform(low[[0, 2]], high[[0, 2]])
        top = float(high[1]) + 0.01
        start = top if self.random.random() < 0.6 else float(self.random.uniform(low[1] + 0.15, top))
        half = np.array([size[0], size[2]]) * scale[0] / 2 * 0.9
        grid = np.stack(np.meshgrid([-1, -0.5, 0, 0.5, 1], [-1, -0.5, 0, 0.5, 1]), axis=-1).reshape(-1, 2) * half
        cos, sin = math.cos(angle), math.sin(angle)
        points = np.stack(
            [x + grid[:, 0] * cos + grid[:, 1] * sin, np.full(25, start), z - grid[:, 0] * sin + grid[:, 1] * cos],
            axis=1,
        )
        down = _cast_vertical(support, points, -1.0)
        if not np.isfinite(down).all() or np.ptp(down) > 0.012:
            return None
        base = start - float(down.min()) + 0.001
        if base < 0.2:
            return None
        points[:, 1] = base + 0.005
        tall = size[1] * scale[1]
        if (_cast_vertical(support, points, 1.0) < tall + 0.01).any():
            return None
        return PlacedObject(mesh, self.pose(float(x), base, float(z), angle, scale))


_SUPPORT_WEIGHTS = {"table": 5.0, "storage": 2.0, "counter": 2.0, "seat": 0.3, "bed": 0.5, "sofa": 0.4}


def _cast_vertical(support: PlacedObject, points: np.ndarray, sign: float) -> np.ndarray:
    """(N,) metres from points to a support straight up or down; infinity for none."""
    turn, shift = support.to_local[:3, :3], support.to_local[:3, 3]
    ray = np.broadcast_to(turn @ (0.0, sign, 0.0), points.shape)
    return support.mesh.tracer.cast(points @ turn.T + shift, ray).distance


def boxes_meet(a: np.ndarray, b: np.ndarray) -> bool:
    """Whether two boxes, (2, 3) lowest and highest corner, share more than what touching takes.

    Example:
        >>> box = np.array([[0.0, 0, 0], [1, 1, 1]])
        >>> boxes_meet(box, box + 0.5), boxes_meet(box, box + 1.0)
        (True, False)
    """
    thin = np.minimum(a[1] - a[0], b[1] - b[0]) / 4  # a sheet of paper is thinner than the gap
    return bool((np.minimum(a[1], b[1]) - np.maximum(a[0], b[0]) > np.minimum(GAP, thin)).all())


def surfaces_meet(a: PlacedObject, b: PlacedObject, *, lift: float = 0.0) -> bool:
    """Whether two objects come nearer to each other than about 2.5 cm.

    Args:
        a: an object.
        b: another.
        lift: metres at the bottom of `a` that are left out, where it stands on `b`.

    Example:
        >>> tile = ObjectMesh("tile", np.eye(3), np.array([[0, 1, 2]]))
        >>> near, far = np.eye(4), np.eye(4)
        >>> near[:3, 3], far[:3, 3] = 0.001, 0.2
        >>> [surfaces_meet(PlacedObject(tile), PlacedObject(tile, pose)) for pose in (near, far)]
        [True, False]
    """
    low = np.maximum(a.bounds[0], b.bounds[0]) - _CELL
    high = np.minimum(a.bounds[1], b.bounds[1]) + _CELL
    low[1] = max(low[1], a.bounds[0][1] + lift)
    if (low >= high).any():
        return False
    cells = [_surface_cells(item, low, high) for item in (a, b)]
    return bool(len(np.intersect1d(cells[0], cells[1])))


def _surface_cells(item: PlacedObject, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Numbers of the cells of a grid over a box that a surface goes through, by points spread on its triangles."""
    points, faces = item.world_vertices, item.mesh.faces
    inside = np.ones(len(faces), dtype=bool)
    for axis in range(3):  # far faster than reductions along short axes
        below, above = points[:, axis] < high[axis], points[:, axis] > low[axis]
        inside &= below[faces].any(axis=1) & above[faces].any(axis=1)
    corners = points[faces[inside]]  # (F, 3, 3)
    if not len(corners):
        return np.zeros(0, dtype=np.int64)
    area = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1) / 2
    # Fixed, so that a layout depends on its own generator alone.
    random = np.random.default_rng(0)
    counts = np.minimum(np.ceil(area / (0.6 * _CELL) ** 2), 4000).astype(int)
    if counts.sum() > 20_000:
        counts = np.maximum(counts * 20_000 // counts.sum(), 1)
    chosen = np.repeat(np.arange(len(corners)), counts)
    first, second = random.random((2, len(chosen), 1))
    flip = first + second > 1
    first, second = np.where(flip, 1 - first, first), np.where(flip, 1 - second, second)
    origin, one, two = corners[chosen, 0], corners[chosen, 1], corners[chosen, 2]
    points = origin + first * (one - origin) + second * (two - origin)
    points = points[((points >= low) & (points < high)).all(axis=1)]
    cells = np.floor((points - low) / _CELL).astype(np.int64)
    return np.unique(cells @ np.array([1, 4096, 4096 * 4096]))
