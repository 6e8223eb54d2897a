"""Checkpoints of pretrained networks: where they come from, found or fetched, verified, and read without surprises.

A checkpoint is looked for in the folders of `SOUNDMARK_WEIGHTS`, then in the user's cache, and fetched into the cache
when it is in neither. Where its publisher gives no checksum, the SHA-256 seen at first use is written beside the file
and holds from then on. Nothing here runs code from a file.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import pickle
import re
import sys
import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from soundmark.download import fetch
from soundmark.errors import DownloadError, SpecError, WeightsError
from soundmark.files import weights_folders, write_text
from soundmark.spec import Spec, lookup, parse_joined, take

PRECISIONS = ("float32", "bf16")
SETTINGS: dict[str, Any] = {"weights": "", "precision": "float32"}
"""What every pretrained network can be told: a checkpoint file of yours, and the precision of its arithmetic."""

_TRIES = 4  # failures in a row before a connection is given up: some seconds, since a user is waiting
_UNKNOWN = re.compile(r"GLOBAL ([\w.]+) was not an allowed global")
_NAMED, _NAMED_OF_MANY = 40, 5  # tensors that do not fit, in a message
_STRANGERS = 50  # classes in a file that are not needed for its tensors; more of them are taken for malice


@dataclass(frozen=True)
class Checkpoint:
    """A published file of weights.

    Attributes:
        file: its name, under which it is looked for.
        url: where it is fetched from.
        licence: of the weights.
        trained_on: data it has seen.
        source: the paper.
        size: bytes, where known.
        sha256, md5: checksums, where its publisher gives one or the file itself was seen.
    """

    file: str
    url: str
    licence: str
    trained_on: str
    source: str
    size: int | None = None
    sha256: str = ""
    md5: str = ""


def _efficientat(name: str, score: int, size: int | None = None, sha256: str = "") -> Checkpoint:
    file = f"{name}_as_mAP_{score}.pt"
    return Checkpoint(
        file,
        f"https://github.com/fschmid56/EfficientAT/releases/download/v0.0.1/{file}",
        "MIT",
        "AudioSet (after ImageNet, taught by transformers)",
        "Schmid, Koutini, Widmer: Efficient large-scale audio tagging via transformer-to-CNN knowledge distillation, "
        "ICASSP 2023",
        size,
        sha256,
    )


def _panns(name: str, score: str, md5: str = "") -> Checkpoint:
    return Checkpoint(
        f"{name}_mAP={score}.pth",
        f"https://zenodo.org/record/3987831/files/{name}_mAP%3D{score}.pth",
        "CC BY 4.0",
        "AudioSet",
        "Kong et al.: PANNs: large-scale pretrained audio neural networks for audio pattern recognition, TASLP 2020",
        md5=md5,
    )


CHECKPOINTS: dict[str, Checkpoint] = {
    "mn01": _efficientat("mn01", 298),
    "mn02": _efficientat("mn02", 378),
    "mn04": _efficientat("mn04", 432, 4_066_513, "899a8c6217063f6941793102a2780b3dd788ab11fce468d9cf5f0577c453321c"),
    "mn05": _efficientat("mn05", 443),
    "mn10": _efficientat("mn10", 471),
    "mn20": _efficientat("mn20", 478),
    "mn30": _efficientat("mn30", 482),
    "mn40": _efficientat("mn40", 484),
    "cnn14": _panns("Cnn14", "0.431", "541141fa2ee191a88f24a3219fff024e"),
    "cnn10": _panns("Cnn10", "0.380", "bfb1f1f9968938fa8ef4012b8471f5f6"),
    "cnn6": _panns("Cnn6", "0.343", "e25e26b84585b14c7754c91e48efc9be"),
    "mobilenetv1": _panns("MobileNetV1", "0.389"),
    "audiosep": Checkpoint(
        "audiosep_base_4M_steps.ckpt",
        "https://huggingface.co/spaces/Audio-AGI/AudioSep/resolve/main/checkpoint/audiosep_base_4M_steps.ckpt",
        "MIT",
        "AudioSet, VGGSound, AudioCaps, Clotho, WavCaps",
        "Liu et al.: Separate anything you describe, 2023",
    ),
}
"""Every checkpoint by the name of its encoder."""


def find(name: str, *, progress: bool = True) -> Path:
    """The checkpoint of an encoder: found in one of the folders, or fetched into the user's cache.

    Args:
        name: of the encoder, such as `mn04`.
        progress: show a bar while it is fetched.

    Returns:
        Its path. Its content is the published one as far as that can be told; see `verify`.

    Raises:
        SpecError: if there is no checkpoint of that name.
        WeightsError: if a file of its name holds something else.
        DownloadError: if it is not here and cannot be fetched; the message says where to put it by hand.
    """
    path = located(name)
    if path is None:
        path = get(name, progress=progress)
    else:
        verify(name, path)
    return path


def located(name: str) -> Path | None:
    """Where the checkpoint is on this machine, if it is; it is not opened."""
    about: Checkpoint = lookup("checkpoint", name, CHECKPOINTS)
    return next((folder / about.file for folder in weights_folders() if (folder / about.file).is_file()), None)


def get(name: str, folder: str | os.PathLike[str] | None = None, *, progress: bool = True) -> Path:
    """Fetch a checkpoint, going on where an earlier call broke off, and verify it.

    Args:
        name: of the encoder.
        folder: where to keep it; by default in the user's cache.
        progress: show a bar.

    Raises:
        SpecError: if there is no checkpoint of that name.
        DownloadError: if it cannot be fetched, or what came is not what is published.
    """
    about: Checkpoint = lookup("checkpoint", name, CHECKPOINTS)
    target = Path(folder).expanduser() / about.file if folder else weights_folders()[-1] / about.file
    if not target.is_file():
        _note(target).unlink(missing_ok=True)  # it is of a file that was deleted
    try:
        fetch(
            about.url, target, size=about.size, sha256=about.sha256, md5=about.md5, progress=progress, tries=_TRIES
        )  # fmt: skip
    except DownloadError as error:
        raise DownloadError(
            f"the weights of {name} are not here, and: {error}. To put them here by hand, fetch {about.url} and "
            f"save it as {target}, or in a folder that SOUNDMARK_WEIGHTS names"
        ) from None
    verify(name, target)
    return target


def verify(name: str, path: str | os.PathLike[str]) -> str:
    """Hold a file against what is known of a checkpoint: size, published checksum, or the one noted at first use.

    Returns:
        What it was held against: `sha256`, `md5`, `first use` (the SHA-256 noted then), or `nothing` where it was noted
        just now.

    Raises:
        SpecError: if there is no checkpoint of that name.
        WeightsError: if the file is another one, or cannot be read.
    """
    about: Checkpoint = lookup("checkpoint", name, CHECKPOINTS)
    file = Path(path)
    found = digest(file)
    again = "delete it and run the same command again to fetch it, or name it with weights=PATH to use it all the same"
    if about.size is not None and file.stat().st_size != about.size:
        raise WeightsError(f"{file} has {file.stat().st_size:,} bytes instead of {about.size:,}: {again}")
    if about.sha256:
        if found != about.sha256:
            raise WeightsError(f"{file} is not the published file: its sha256 is {found}, not {about.sha256}: {again}")
        return "sha256"
    noted = _noted(file)
    if noted:
        if found != noted:
            raise WeightsError(
                f"{file} has changed since its first use: its sha256 is {found}, not {noted} as in {_note(file)}: "
                + again
            )
        return "md5" if about.md5 else "first use"
    if about.md5:
        with open(file, "rb") as stream:
            md5 = hashlib.file_digest(stream, functools.partial(hashlib.md5, usedforsecurity=False)).hexdigest()
        if md5 != about.md5:
            raise WeightsError(f"{file} is not the published file: its md5 is {md5}, not {about.md5}: {again}")
    with contextlib.suppress(OSError):  # a folder that cannot be written to
        write_text(_note(file), f"{found}  {file.name}\n")
        if not about.md5:
            print(
                f"soundmark: no checksum of {file.name} is published; its sha256 {found} is noted in {_note(file)} and "
                "holds from now on",
                file=sys.stderr,
            )
    return "md5" if about.md5 else "nothing"


def _note(file: Path) -> Path:
    return file.with_name(file.name + ".sha256")


def _noted(file: Path) -> str:
    """The SHA-256 noted beside a file, in the format of sha256sum, or nothing."""
    try:
        words = _note(file).read_text("utf-8").split()
    except (OSError, UnicodeDecodeError):
        return ""
    return words[0].lower() if words and re.fullmatch(r"[0-9a-fA-F]{64}", words[0]) else ""


def digest(path: str | os.PathLike[str]) -> str:
    """SHA-256 of a file, hexadecimal; computed once for as long as its size and time stay the same.

    Raises:
        WeightsError: if it cannot be read.
    """
    file = Path(path).expanduser()
    try:
        about = file.stat()
        return _digest(file.absolute(), about.st_mtime_ns, about.st_size)
    except OSError as error:
        raise WeightsError(f"cannot read the weights {file}: {error.strerror or error}; check the path") from None


@functools.lru_cache(maxsize=64)
def _digest(path: Path, _changed: int, _size: int) -> str:
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def chosen(spec: Spec, *, precisions: tuple[str, ...] = PRECISIONS) -> tuple[Spec, Path, str]:
    """What a pretrained encoder's name says of its weights: `weights=PATH` and `precision=bf16`.

    Args:
        spec: the parsed name; `spec.name` is the checkpoint's, unless it names a file.
        precisions: those that the encoder knows.

    Returns:
        The spec without settings that say what holds anyway, the checkpoint's path (fetched if need be), and the
        precision.

    Raises:
        SpecError: for a view, or for a setting that is unknown or malformed.
        WeightsError: if the file cannot be read, or is not the published one.
        DownloadError: if it cannot be fetched.
    """
    if spec.view:
        raise SpecError(f"{spec.name!r} has no views: write {spec.name} or {spec.name}@layer?setting=value")
    settings = take(spec, SETTINGS)
    if settings["precision"] not in precisions:
        raise SpecError(f"precision={settings['precision']} in {spec.name!r}: it is {' or '.join(precisions)}")
    path = Path(settings["weights"]).expanduser() if settings["weights"] else find(spec.name)
    if settings["weights"] and not path.is_file():
        raise WeightsError(f"there is no file of weights {path}: check the path after weights= in {spec.name!r}")
    said = {key: str(value) for key, value in settings.items() if value != SETTINGS[key]}
    return Spec(spec.name, layer=spec.layer, settings=said), path, settings["precision"]


def provenance(names: Iterable[str]) -> list[dict[str, str]]:
    """What pretrained weights some encoders hold, for results and model files.

    Args:
        names: of encoders in the grammar; those without weights of ours are passed over.

    Returns:
        For each network once: `name`, `sha256` of its file, and for the published file `url`, `licence`, `trained_on`
        and `source`.
    """
    found: dict[str, dict[str, str]] = {}
    for spec in (spec for name in names for spec in parse_joined(name) if spec.name in CHECKPOINTS):
        own = spec.settings.get("weights")
        file = Path(own).expanduser() if own else located(spec.name)
        if file is None:
            continue
        about = CHECKPOINTS[spec.name]
        known = {} if own else {key: getattr(about, key) for key in ("url", "licence", "trained_on", "source")}
        found[f"{spec.name}?{own}"] = {"name": spec.name, "sha256": digest(file), **known}
    return list(found.values())


def load(path: str | os.PathLike[str], *, mapped: bool = True) -> dict[str, Tensor]:
    """The tensors of a checkpoint by name, on the CPU. Safe with a file from a stranger: no code in it is run.

    A plain state dict is understood, one under `model` (PANNs) or `state_dict` (Lightning), and either written by any
    version of PyTorch. Whatever else the file holds is passed over.

    Args:
        path: the file.
        mapped: leave the file on disk and read what is looked at, for files of which much is not; otherwise each
            tensor has memory of its own, which is free again when it is dropped.

    Raises:
        WeightsError: if the file cannot be read or holds no tensors by name.
    """
    file = Path(path).expanduser()
    content = _content(file, mapped)
    for key in ("state_dict", "model"):
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
    found = (
        {str(name): value for name, value in content.items() if isinstance(value, Tensor)}
        if isinstance(content, Mapping)
        else {}
    )
    if not found:
        raise WeightsError(f"{file} holds no tensors by name: it is not a checkpoint's state dict")
    return found


def _content(file: Path, mapped: bool) -> Any:
    """What is in a file of `torch.save`; objects of classes that PyTorch does not know come as empty shells."""
    strangers: dict[str, type] = {}
    while True:
        try:
            with torch.serialization.safe_globals(list(strangers.values())):
                return torch.load(file, map_location="cpu", weights_only=True, mmap=mapped and zipfile.is_zipfile(file))
        except OSError as error:
            raise WeightsError(f"cannot read the weights {file}: {error.strerror or error}; check the path") from None
        except pickle.UnpicklingError as error:
            unknown = _UNKNOWN.search(str(error))
            if not unknown or unknown[1] in strangers or len(strangers) >= _STRANGERS:
                raise WeightsError(_unreadable(file)) from None
            # Training state beside the tensors, such as a sampler's: nothing of it is needed, so nothing of it is made.
            module, _, name = unknown[1].rpartition(".")
            strangers[unknown[1]] = type(name, (_Shell,), {"__module__": module})
        except Exception:  # damaged files raise whatever the damage leads to
            raise WeightsError(_unreadable(file)) from None


class _Shell:
    """Stands for an object that is passed over: takes anything and does nothing."""

    def __new__(cls, *_: Any, **__: Any) -> _Shell:
        return super().__new__(cls)

    def __init__(self, *_: Any, **__: Any) -> None:
        pass

    def __setstate__(self, _: Any) -> None:
        pass


def _unreadable(file: Path) -> str:
    return (
        f"{file} cannot be read as a checkpoint: it is damaged, cut short, or no file of PyTorch's; delete it and "
        "fetch it again, for instance with `soundmark weights get`"
    )


def fill(module: nn.Module, state: Mapping[str, Tensor], source: str | os.PathLike[str]) -> None:
    """Copy a checkpoint's tensors into a module; every one must be there, none left over, all of the right shape.

    Args:
        module: whose `state_dict` has the checkpoint's own names.
        state: tensors by name.
        source: the file they come from, for the message.

    Raises:
        WeightsError: naming every tensor that is missing, unexpected or misshapen (the first of them, where another
            network's file was given and hundreds are; its `faults` then hold them all); nothing is copied then.
    """
    own = module.state_dict()
    faults = {
        "missing": [name for name in own if name not in state],
        "unexpected": [name for name in state if name not in own],
        "of the wrong shape": [
            f"{name} {tuple(state[name].shape)} instead of {tuple(value.shape)}"
            for name, value in own.items()
            if name in state and state[name].shape != value.shape
        ],
    }
    count = sum(map(len, faults.values()))
    if count:
        most = _NAMED if count <= _NAMED else _NAMED_OF_MANY
        listed = [f"{len(names)} {what}: {_some(names, most)}" for what, names in faults.items() if names]
        error = WeightsError(
            f"the weights in {os.fspath(source)} do not fit {type(module).__name__}"
            f"{' and may be of another network' if count > _NAMED else ''}: {'; '.join(listed)}"
        )
        error.faults = tuple(f"{what}: {name}" for what, names in faults.items() for name in names)
        raise error
    with torch.no_grad():
        for name, value in own.items():
            value.copy_(state[name])


def _some(names: list[str], most: int) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
