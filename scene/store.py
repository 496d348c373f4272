"""A folder of scenes with its manifest, as the jobs take it: a corpus of shards, or scenes saved one by one."""

import json
import zipfile
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core.errors import InputError, MissingFileError, check_choice, nearest
from core.files import atomic_write, read_json
from scene.io import AGAIN, MANIFEST, TABLE, decode_scene, load_scene, read_npz
from scene.shards import ShardWriter, shard_file, shard_name, with_points
from scene.types import Scene

if TYPE_CHECKING:
    from scene.texts import Referral, Text

MANIFEST_FORMAT = "sightline-scenes/1"


@dataclass(frozen=True)
class ShardIndex:
    """In which shard each home of a corpus is."""

    folder: Path
    of_scene: dict[str, str]  # scene id -> shard name
    of_split: dict[str, list[str]]  # split -> shard names in order

    @classmethod
    def of(cls, folder: Path, manifest: dict[str, Any]) -> "ShardIndex":
        """From a manifest; a folder of single scenes has no shards. Raises InputError when counts disagree."""
        of_scene: dict[str, str] = {}
        of_split: dict[str, list[str]] = {}
        for split, shards in manifest.get("shards", {}).items():
            ids, first = manifest["splits"][split], 0
            for shard in shards:
                of_scene |= dict.fromkeys(ids[first : first + shard["homes"]], shard["name"])
                first += shard["homes"]
            if first != len(ids):
                raise InputError(f"{folder}: the manifest counts {len(ids)} homes of {split}, its shards {first}")
            of_split[split] = [shard["name"] for shard in shards]
        return cls(folder, of_scene, of_split)

    def read(self, part: str, scene_id: str, suffix: str) -> bytes | None:
        """Bytes of `<id><suffix>` in a zip of the home's shard; None where the zip lacks it.

        Raises:
            MissingFileError: the shard is gone. InputError: it is damaged.
        """
        path = shard_file(self.folder, part, self.of_scene[scene_id])
        try:
            with zipfile.ZipFile(path) as archive:
                return archive.read(scene_id + suffix)
        except KeyError:
            return None
        except FileNotFoundError as error:
            raise MissingFileError(f"shard of scene {scene_id} not found: {path}; {AGAIN}") from error
        except (zipfile.BadZipFile, EOFError, NotImplementedError) as error:
            raise InputError(f"shard is truncated or damaged: {path} ({error}); {AGAIN}") from error

    def table(self, part: str, split: str, columns: Sequence[str] | None = None) -> Any:
        """The rows of a split of texts, objects or relations as one pyarrow table.

        Raises:
            MissingFileError, InputError: as `read`.
        """
        import pyarrow as pa

        return pa.concat_tables([self.rows(part, name, columns) for name in self.of_split[split]])

    def rows(self, part: str, name: str, columns: Sequence[str] | None = None) -> Any:
        """Those of one shard."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        path = shard_file(self.folder, part, name)
        try:
            return pq.read_table(path, columns=list(columns) if columns else None)
        except FileNotFoundError as error:
            raise MissingFileError(f"shard not found: {path}; {AGAIN}") from error
        except (pa.ArrowInvalid, OSError) as error:
            raise InputError(f"shard is truncated or damaged: {path} ({error}); {AGAIN}") from error


def save_manifest(folder: str | Path, manifest: dict[str, Any]) -> Path:
    """Writes manifest.json with its format; `manifest` needs "source" and "splits" (split name -> scene ids)."""
    missing = {"source", "splits"} - manifest.keys()
    if missing:
        raise InputError(f"the manifest lacks {sorted(missing)}; it needs source and splits")
    return atomic_write(Path(folder) / MANIFEST, json.dumps({"format": MANIFEST_FORMAT} | manifest, indent=1))


def write_corpus(
    folder: str | Path, homes: Mapping[str, Sequence[tuple[Scene, "Sequence[Text]"]]], source: str, **manifest: Any
) -> "SceneStore":
    """A corpus of homes that are in memory, one shard per split; what build-scenes does for as many as there are.

    Args:
        homes: split -> homes with what is said about each.
        manifest: further entries of the manifest.

    Raises:
        InputError: a home without objects, or an id that cannot be a file name.
    """
    from scene.graph import build_graph
    from scene.texts import texts_to_table

    folder = Path(folder)
    shards = {}
    for split, pairs in homes.items():
        name = shard_name(split, 0)
        with ShardWriter(folder, name) as shard:
            for scene, _ in pairs:
                shard.add(scene, build_graph(scene), with_points(scene, 0, seed=0))
            shard.tables(texts_to_table(text for _, texts in pairs for text in texts))
        shards[split] = [{"name": name, "homes": len(pairs), "files": shard.files}]
    splits = {split: [scene.id for scene, _ in pairs] for split, pairs in homes.items()}
    save_manifest(folder, {"source": source, "splits": splits, "shards": shards, **manifest})
    return SceneStore(folder)


class SceneStore:
    """A folder of saved scenes with its manifest; the scenes read last stay in memory.

    Args:
        folder: holds manifest.json and the scenes it names.
        cache: how many scenes stay in memory.
        points: read the point tables of a corpus, too; who needs surfaces alone saves their memory.

    Raises:
        MissingFileError: no folder or no manifest. InputError: a manifest that is damaged or of another format.
    """

    def __init__(self, folder: str | Path, cache: int = 64, points: bool = True) -> None:
        self.folder = Path(folder).expanduser()
        if not (self.folder / MANIFEST).exists():
            raise MissingFileError(
                f"no scenes in {self.folder}: {MANIFEST} is missing (working folder: {Path.cwd()}); "
                "make them with: sightline build-scenes"
            )
        manifest = read_json(self.folder / MANIFEST, "scene manifest")
        found = manifest.get("format") if isinstance(manifest, dict) else None
        if found != MANIFEST_FORMAT or not isinstance(manifest.get("splits"), dict):
            raise InputError(
                f"{self.folder / MANIFEST} has format {found!r}, expected {MANIFEST_FORMAT!r} with splits; "
                "build the scenes with this version"
            )
        self.manifest: dict[str, Any] = manifest
        self.shards = ShardIndex.of(self.folder, manifest)
        self._cache: OrderedDict[str, Scene] = OrderedDict()
        self._size = cache
        self.points = points

    @property
    def splits(self) -> dict[str, list[str]]:
        """Split name -> scene ids."""
        return self.manifest["splits"]

    def split(self, name: str) -> list[str]:
        """Scene ids of a split. Raises InputError for an unknown one."""
        if name not in self.splits:
            raise InputError(f"scenes in {self.folder} have no split {name!r}; {nearest(name, self.splits)}")
        return list(self.splits[name])

    def load(self, scene_id: str) -> Scene:
        """One scene, from memory when it was read lately; treat it as read-only."""
        scene = self._cache.pop(scene_id, None)
        if scene is None:
            scene = self._read(scene_id)
        self._cache[scene_id] = scene
        while len(self._cache) > self._size:
            self._cache.popitem(last=False)
        return scene

    def table(self, part: str, split: str, columns: Sequence[str] | None = None) -> Any:
        """Rows of a split of a corpus as one pyarrow table; `part`: texts, objects or relations (scene/shards.py).

        Raises:
            InputError: unknown split, or a folder of single scenes, which has no tables.
            MissingFileError, InputError: a shard is gone or damaged.
        """
        self.split(split)
        if self.shards.of_split.get(split) == []:
            raise InputError(f"the split {split!r} of {self.folder} has no homes, so it has no {part}")
        if split not in self.shards.of_split:
            raise InputError(f"{self.folder} holds single scenes without {part}; make a corpus: sightline build-scenes")
        return self.shards.table(part, split, columns)

    def texts(self, split: str, kind: str = "") -> "list[Text]":
        """What is said and asked about the homes of a split, in their order.

        Args:
            kind: referral, caption or question; empty = all.

        Raises:
            InputError, MissingFileError: as `table`.
        """
        import pyarrow.compute as pc

        from scene.texts import TYPES, texts_from_table

        if not self.split(split):
            return []
        table = self.table("texts", split)
        if kind:
            check_choice("kind of text", kind, TYPES)
            table = table.filter(pc.equal(table["type"], kind))
        return texts_from_table(table)

    def texts_of(self, scene_id: str) -> "list[Text]":
        """What is said and asked about one home; nothing in a folder of single scenes.

        Raises:
            InputError, MissingFileError: its shard is gone or damaged.
        """
        import pyarrow.compute as pc

        from scene.texts import texts_from_table

        if scene_id not in self.shards.of_scene:
            return []
        table = self.shards.rows("texts", self.shards.of_scene[scene_id])
        return texts_from_table(table.filter(pc.equal(table["scene_id"], scene_id)))

    def referrals(self, split: str) -> "list[Referral]":
        """The sentences of a split that mean exactly one object.

        Raises:
            InputError, MissingFileError: as `table`.
        """
        from scene.texts import Referral

        return [text for text in self.texts(split, "referral") if isinstance(text, Referral) and len(text.targets) == 1]

    def _read(self, scene_id: str) -> Scene:
        if scene_id not in self.shards.of_scene:
            if self.shards.of_scene:
                known = list(self.shards.of_scene)
                hint = nearest(scene_id, known) if len(known) <= 20 else f"it holds {len(known)} other scenes"
                raise MissingFileError(f"scene {scene_id!r} not found in {self.folder}; {hint}")
            return load_scene(self.folder, scene_id)
        record, arrays = (self.shards.read("scenes", scene_id, suffix) for suffix in (".json", ".npz"))
        where = f"scene {scene_id} in {self.folder}"
        if record is None or arrays is None:
            raise InputError(f"{where} is not in its shard, which is truncated or damaged; {AGAIN}")
        scene = decode_scene(_parsed(record, where), arrays, where)
        table = self.shards.read("points", scene_id, ".npz") if self.points else None
        if table is not None:
            found = read_npz(table, None, where)
            scene = replace(scene, **{name: found.get(name) for name in TABLE})  # type: ignore[arg-type]
        return scene


def _parsed(record: bytes, where: str) -> Any:
    try:
        return json.loads(record)
    except ValueError as error:
        raise InputError(f"{where} is damaged ({error}); {AGAIN}") from error
