"""UrbanSound8K: 8732 excerpts of at most 4 s in ten classes of city sounds, and ten official folds.

The folds are the protocol: excerpts of one recording (`fsID`) lie in one fold, so a random split in their place tells
how well a recording is recognised that was trained on. The score is the mean over the ten folds, which differ in size.

Caveats: rates, depths (24 bit among them) and channels are mixed; excerpts are as short as 0.05 s; classes are uneven
(`car_horn` and `gun_shot` have fewer than half the others' clips); the sound is in the foreground in some (`salience`
1) and in the background of others (2).

Source:
    J. Salamon, C. Jacoby, J. P. Bello, "A Dataset and Taxonomy for Urban Sound Research", ACM Multimedia 2014,
    https://urbansounddataset.weebly.com/urbansound8k.html
"""

from __future__ import annotations

from pathlib import Path

from soundmark.errors import TaskError
from soundmark.spec import Spec, take
from soundmark.tasks import fetching, published
from soundmark.tasks.base import Clip, Task

TABLE = "metadata/UrbanSound8K.csv"
COLUMNS = ("slice_file_name", "fsID", "fold", "classID", "class")
FOLDS = 10

# In the order of the table's `classID` column.
CLASSES: tuple[str, ...] = (
    *("air_conditioner", "car_horn", "children_playing", "dog_bark", "drilling"),
    *("engine_idling", "gun_shot", "jackhammer", "siren", "street_music"),
)
KNOWN = published.DataSet(
    name="urbansound8k",
    title="UrbanSound8K, city sounds",
    folders=("UrbanSound8K",),
    recordings=8732,
    suffix=".wav",
    size="6 GB",
    licence="CC BY-NC 3.0",
    source="https://zenodo.org/records/1203745",
)
ARCHIVES = (
    fetching.Archive(
        url="https://zenodo.org/records/1203745/files/UrbanSound8K.tar.gz",
        md5="9aa69802bbf37fb986f71ec1483a196e",
        strip=1,
    ),
)


def load(spec: Spec, allow_partial: bool = False) -> Task:
    """The task, from the first data folder that has it.

    Args:
        spec: the parsed name; it takes no settings.
        allow_partial: take what is there, and say so, instead of raising; see `soundmark.tasks.published`.

    Raises:
        TaskError: if the data set is not there, is incomplete, or its table is not the published one.
    """
    take(spec, {})
    return load_from(published.find_root(KNOWN, lambda place: (place / TABLE).is_file()), allow_partial)


def load_from(root: Path, allow_partial: bool = False) -> Task:
    """The task from its own folder, which holds `audio` and `metadata`. Arguments and errors as `load`."""
    rows = {f"audio/fold{row['fold']}/{Path(row['slice_file_name']).stem}": row for row in read_table(root / TABLE)}
    found = published.match(KNOWN, root, rows, published.listing(root, KNOWN.suffix, ["audio"]), allow_partial)
    task = Task(
        name=KNOWN.name,
        root=root,
        clips=tuple(
            Clip(path, (rows[stem]["class"],), group=rows[stem]["fsID"], fold=rows[stem]["fold"])
            for stem, path in found.paths.items()
        ),
        classes=CLASSES,
        protocol="official 10 folds",
        rounds=(),
        over="folds",
        official=True,
    )
    return published.settled(task, found, published.by_folds)


def get(spec: Spec, folder: Path, url: str = "", *, keep_archive: bool = False, progress: bool = True) -> Path:
    """Fetch the data set into `folder`/UrbanSound8K, unless it is there, and check that it is complete.

    Raises:
        DownloadError: if it cannot be fetched or unpacked.
        TaskError: if what came is not UrbanSound8K.
    """
    take(spec, {})
    return fetching.get(KNOWN, ARCHIVES, folder, load_from, url, keep_archive=keep_archive, progress=progress)


def read_table(path: Path) -> list[published.Row]:
    """The rows of `metadata/UrbanSound8K.csv`, checked against what was published.

    Raises:
        TaskError: if it cannot be read, lacks columns, or names other classes or folds.
    """
    rows = published.read_csv(path, COLUMNS)
    numbers = {str(number): name for number, name in enumerate(CLASSES)}
    folds = {str(number) for number in range(1, FOLDS + 1)}
    for row in rows:
        if numbers.get(row["classID"]) != row["class"] or row["fold"] not in folds:
            raise TaskError(
                f"{path}: the row of {row['slice_file_name']} (fold {row['fold']}, classID {row['classID']}, "
                f"{row['class']}) is not that of the published table; fetch it again"
            )
    return rows
