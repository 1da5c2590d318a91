"""Features of photos on disk: computed once, read at random, refused where they are not the right ones.

A cache is a folder of `cache.json`, what its features are, and of safetensors shards, each with its own index in its
header. A shard is written beside and renamed, so a killed run leaves none that is half written; whatever else makes one
incomplete is found when the folder is opened (truncation) or when the photo is first read (changed bytes).
"""

import json
import logging
import os
import shutil
import threading
import time
import zlib
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from hashlib import blake2b
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor
from tqdm.auto import tqdm

from ...files import atomic_file, parse_json_object, write_text

logger = logging.getLogger(__name__)

FORMAT = 1
DTYPE = torch.bfloat16
SHARD_BYTES = 2**28
SECONDS_AT_RISK = 60.0
"""A shard is closed after this long, so that a killed run loses little even where a photo takes a minute."""
_INDEX = "cache.json"
_SHARDS = "features-*.safetensors"
_OPEN_SHARDS = 32


class FeatureCacheError(ValueError):
    """A cache that is stale, damaged, or none; the message says what to do.

    Example:
        >>> issubclass(FeatureCacheError, ValueError)
        True
    """


class _Entry(NamedTuple):
    shard: Path
    position: int
    checksums: tuple[int, ...]


class FeatureCache:
    """Feature maps of photos by the hash of their content, bf16.

    Args:
        folder: made where it lacks.
        settings: what the features depend on (`DiffusionFeatureExtractor.describe`): JSON values.
        shapes: (C, h, w) of the maps of every photo.

    Raises:
        FeatureCacheError: the folder holds features of other settings (each is named), or a damaged shard, or files
            that are no cache.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     cache = FeatureCache(folder, {"time_step": 181}, shapes=[(2, 4, 4)])
        ...     cache.fill(["key"], {"key": "1.png"}, lambda key: [torch.ones(1, 2, 4, 4)], show_progress=False)
        ...     (maps,) = cache.read("key")
        >>> maps.shape, maps.dtype
        (torch.Size([1, 2, 4, 4]), torch.bfloat16)
    """

    def __init__(
        self, folder: str | os.PathLike[str], settings: Mapping[str, Any], shapes: Sequence[tuple[int, int, int]]
    ) -> None:
        self.folder = Path(folder)
        self.shapes = [tuple(shape) for shape in shapes]
        self.settings = {
            "format": FORMAT,
            "dtype": str(DTYPE).removeprefix("torch."),
            **json.loads(json.dumps(settings)),
        }
        self._entries: dict[str, _Entry] = {}
        self._names: dict[str, set[str]] = {}
        self._scanned: set[Path] = set()
        self._verified: set[str] = set()
        self._handles: OrderedDict[Path, Any] = OrderedDict()
        self._lock = threading.Lock()  # batches are prepared in a thread of their own
        self._open_index()
        self.refresh()

    def __contains__(self, key: str) -> bool:
        return key in self._entries

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def bytes_per_photo(self) -> int:
        """Size of the maps of one photo."""
        return sum(c * h * w for c, h, w in self.shapes) * DTYPE.itemsize

    def refresh(self) -> None:
        """Take in the shards that were written since, by this process or others."""
        for shard in sorted(self.folder.glob(_SHARDS)):
            if shard not in self._scanned:
                self._scan(shard)
                self._scanned.add(shard)

    def read(self, key: str) -> tuple[Tensor, ...]:
        """The maps (1, C, h, w) bf16 of a photo, on the CPU.

        Nothing is kept in memory: training meets photos in random order, and the system caches files better.

        Raises:
            KeyError: the photo is not in the cache.
            FeatureCacheError: its bytes are not those that were written.
        """
        entry = self._entries[key]
        with self._lock:
            try:
                handle = self._handle(entry.shard)
                maps = tuple(handle.get_tensor(f"{entry.position}.{k}") for k in range(len(self.shapes)))
            except (SafetensorError, OSError) as error:
                raise self._damaged(entry.shard, error) from error
        if key not in self._verified:
            if tuple(_checksum(value) for value in maps) != entry.checksums:
                raise self._damaged(entry.shard, "its bytes have changed since they were written")
            self._verified.add(key)
        return tuple(value[None] for value in maps)

    def missing(self, wanted: Mapping[str, str]) -> list[str]:
        """Keys of the photos that are not in the cache yet.

        Args:
            wanted: name of each photo by key.

        Raises:
            FeatureCacheError: a photo of the same name is there with another content.
        """
        lacking = [key for key in wanted if key not in self._entries]
        changed = sorted(wanted[key] for key in lacking if self._names.get(wanted[key], set()) - set(wanted))
        if changed:
            raise FeatureCacheError(
                f"feature cache {self.folder}: {len(changed)} photos are not those it was made from, the first is "
                f"{changed[0]}. " + _ADVICE
            )
        return lacking

    def check_space(self, count: int) -> None:
        """Log how much `count` more photos take.

        Raises:
            OSError: the disk has less room.
        """
        needed = count * self.bytes_per_photo
        free = shutil.disk_usage(self.folder).free
        text = f"features of {count} photos need {_size(needed)} ({_size(self.bytes_per_photo)} each)"
        if needed > free:
            raise OSError(f"`folder` {self.folder}: {text}, but {_size(free)} are free.")
        logger.info("%s: %s; %s are free, %d photos are there", self.folder, text, _size(free), len(self))

    def fill(
        self,
        keys: Sequence[str],
        names: Mapping[str, str],
        compute: Callable[[str], Sequence[Tensor] | None],
        *,
        show_progress: bool = True,
        shard_bytes: int = SHARD_BYTES,
    ) -> None:
        """Compute and write the features of photos; what was complete when it stops, for whatever reason, stays.

        Args:
            keys: the photos; several processes pass disjoint ones.
            names: name of each photo by key.
            compute: key -> maps (1, C, h, w) of any dtype, or None for a photo to leave out.
            show_progress: a bar with the rate.
            shard_bytes: about how large a shard gets.
        """
        pending: dict[str, list[Tensor]] = {}
        started = time.monotonic()
        try:
            for key in tqdm(keys, desc="cache features", unit="photo", disable=not show_progress):
                maps = compute(key)
                if maps is None:
                    continue
                pending[key] = self._checked_maps(maps, names[key])
                full = len(pending) * self.bytes_per_photo >= shard_bytes
                if full or time.monotonic() - started > SECONDS_AT_RISK:
                    self._write(pending, names)
                    pending, started = {}, time.monotonic()
        finally:
            if pending:
                self._write(pending, names)
        self.refresh()

    def _checked_maps(self, maps: Sequence[Tensor], name: str) -> list[Tensor]:
        shapes = [tuple(value.shape) for value in maps]
        wanted = [(1, *shape) for shape in self.shapes]
        if shapes != wanted:
            raise ValueError(f"features of photo {name} have shapes {shapes}, expected {wanted}.")
        kept = [value[0].to("cpu", DTYPE).contiguous() for value in maps]
        if not all(bool(torch.isfinite(value).all()) for value in kept):
            raise FloatingPointError(
                f"features of photo {name} are not finite; compute them in another dtype (float16 overflows in "
                "some checkpoints, bfloat16 and float32 do not)."
            )
        return kept

    def _write(self, pending: Mapping[str, list[Tensor]], names: Mapping[str, str]) -> None:
        index = [
            {"key": key, "name": names[key], "crc32": [_checksum(value) for value in maps]}
            for key, maps in pending.items()
        ]
        tensors = {
            f"{position}.{k}": value for position, maps in enumerate(pending.values()) for k, value in enumerate(maps)
        }
        # Named by its photos: processes and runs that fill one folder at a time never write the same name.
        stem = f"features-{blake2b(''.join(pending).encode(), digest_size=12).hexdigest()}"
        with atomic_file(self.folder / f"{stem}.safetensors") as beside:
            save_file(tensors, beside, metadata={"photos": json.dumps(index)})

    def _scan(self, shard: Path) -> None:
        """Read the index in a shard's header; safetensors itself refuses a file shorter than its header says."""
        try:
            with safe_open(shard, framework="pt") as handle:
                photos = json.loads((handle.metadata() or {})["photos"])
                for position, photo in enumerate(photos):
                    shapes = [tuple(handle.get_slice(f"{position}.{k}").get_shape()) for k in range(len(self.shapes))]
                    if shapes != self.shapes:
                        raise self._damaged(shard, f"maps of shapes {shapes}, expected {self.shapes}")
                    entry = _Entry(shard, position, tuple(photo["crc32"]))
                    self._entries.setdefault(photo["key"], entry)
                    self._names.setdefault(photo["name"], set()).add(photo["key"])
        except (SafetensorError, OSError, KeyError, TypeError, ValueError, RecursionError) as error:
            raise self._damaged(shard, error) from error

    def _handle(self, shard: Path) -> Any:
        if shard not in self._handles:
            self._handles[shard] = safe_open(shard, framework="pt")
            if len(self._handles) > _OPEN_SHARDS:
                self._handles.popitem(last=False)
        self._handles.move_to_end(shard)
        return self._handles[shard]

    def _damaged(self, shard: Path, reason: object) -> FeatureCacheError:
        return FeatureCacheError(
            f"feature cache {self.folder}: shard {shard.name} is damaged ({reason}). Delete that file to have its "
            "photos computed anew."
        )

    def _open_index(self) -> None:
        path = self.folder / _INDEX
        if self.folder.exists() and not self.folder.is_dir():
            raise FeatureCacheError(f"`folder` must be a folder, but {self.folder} is a file.")
        self.folder.mkdir(parents=True, exist_ok=True)
        others = [] if path.exists() else [item.name for item in self.folder.iterdir() if item.name[0] != "."]
        if path.exists():  # looked at once more: a process that started at the same moment may have made it
            self._compare(path)
            return
        if others:
            raise FeatureCacheError(
                f"`folder` {self.folder} has no {_INDEX} but holds {sorted(others)[0]}: it is no feature "
                "cache, or was copied incompletely. " + _ADVICE
            )
        write_text(path, json.dumps(self.settings, indent=1) + "\n")

    def _compare(self, path: Path) -> None:
        try:
            found = parse_json_object(path.read_bytes(), f"feature cache {self.folder}: {_INDEX}")
        except ValueError as error:
            raise FeatureCacheError(f"{str(error).rstrip('.')}. {_ADVICE}") from error
        differing = [name for name in {**self.settings, **found} if self.settings.get(name) != found.get(name)]
        if differing:
            told = "; ".join(
                f"{name}: the cache has {found.get(name)!r}, this run {self.settings.get(name)!r}" for name in differing
            )
            raise FeatureCacheError(f"feature cache {self.folder} is of other features: {told}. {_ADVICE}")


_ADVICE = "Take another folder, or empty this one with `clear_cache`."


def clear_cache(folder: str | os.PathLike[str]) -> None:
    """Delete the shards and the index of a cache, and nothing else that lies in the folder.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     cache = FeatureCache(folder, {"time_step": 181}, shapes=[(2, 4, 4)])
        ...     clear_cache(folder)
        ...     list(Path(folder).iterdir())
        []
    """
    folder = Path(folder)
    (folder / _INDEX).unlink(missing_ok=True)
    for path in folder.glob(_SHARDS):
        path.unlink(missing_ok=True)


def _checksum(value: Tensor) -> int:
    return zlib.crc32(value.contiguous().view(torch.uint8).numpy().data)


def _size(count: int) -> str:
    return f"{count / 1e9:.2f} GB" if count >= 1e9 else f"{count / 1e6:.2f} MB"
