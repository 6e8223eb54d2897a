"""The model file at work: from a recording to labels with scores, by NumPy and ONNX Runtime alone.

import soundmark

recognise = soundmark.load("model.onnx")
recognise("dog.wav")  # [{"label": "dog", "score": 0.97}, ...]
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import onnxruntime

from soundmark import audio, modelfile
from soundmark.audio import Source, Window, WindowPolicy
from soundmark.audio.waveforms import alike, samples_of
from soundmark.errors import AudioError, ModelError

MEMORY_LIMIT = 4 << 30  # bytes that graphs may use while they run, all models of a process together
WHOLE_FACTOR = 1.5  # recordings up to so many times the longest training clip are heard whole
WHOLE_SECONDS = 600.0  # and none longer than this
UNKNOWN = "unknown"  # the label of a sound that is probably none of those learnt
BATCH_SECONDS = 60.0  # of waveforms that go through the graph at once


class View(Protocol):
    """What `with_view` asks of a view; see `soundmark.tasks.View`."""

    @property
    def name(self) -> str:
        """As in the grammar."""
        ...

    def matrix(self, labels: Sequence[str]) -> tuple[np.ndarray, tuple[str, ...]]:
        """(old, new) matrix of zeros and ones, and the new labels."""
        ...


def load(source: str | os.PathLike[str] | bytes, *, threads: int | None = None) -> Classifier:
    """Load a model file, safely even where it comes from a stranger.

    Args:
        source: path of the `.onnx` file or of a run's folder that holds `model.onnx`, or the file's content.
        threads: cores that one run may use; None leaves it to ONNX Runtime (all of them).

    Returns:
        A classifier. It can be called from several threads at once.

    Raises:
        ModelError: if there is no such file, or it is not a model file that can be used.
    """
    name = "the model given" if isinstance(source, bytes) else os.fspath(source)
    content = source if isinstance(source, bytes) else _content(Path(source))
    facts = modelfile.check(content, name)
    return Classifier(name, facts, _session(content, name, threads))


def _content(path: Path) -> bytes:
    try:
        file = path / "model.onnx" if path.is_dir() else path
        if file.stat().st_size > modelfile.MAX_BYTES:
            raise ModelError(f"{file} is larger than any model file ({modelfile.MAX_BYTES:,} bytes)")
        if not file.is_file():
            raise ModelError(f"{file} is not a file: give the path of a model file")
        return file.read_bytes()
    except FileNotFoundError:
        raise ModelError(f"there is no model file {path}: check the path, or make one with `soundmark train`") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ModelError(f"cannot read the model file {path}: {reason}") from None


def _session(content: bytes, name: str, threads: int | None) -> Any:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # what matters is raised; the rest is talk
    options.intra_op_num_threads = threads or 0
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    _bound_memory(options)
    try:
        return onnxruntime.InferenceSession(
            content, options, providers=["CPUExecutionProvider"], enable_fallback=0
        )  # the fallback would print, and try the same again
    except Exception as error:  # ONNX Runtime's exceptions have no common base
        raise ModelError(f"{name} cannot be used: {_reason(error)}") from None


def _bound_memory(options: Any) -> None:
    """Have the graph allocate from an arena with an upper end, so that no file can take all the machine's memory."""
    if not _BOUNDED:
        info = onnxruntime.OrtMemoryInfo(
            "Cpu", onnxruntime.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, onnxruntime.OrtMemType.DEFAULT
        )
        with contextlib.suppress(Exception):  # the program around us has made one already: then that is used
            onnxruntime.create_and_register_allocator(
                info, onnxruntime.OrtArenaCfg({"max_mem": MEMORY_LIMIT, "arena_extend_strategy": 1})
            )
        _BOUNDED.append(True)
    options.add_session_config_entry("session.use_env_allocators", "1")


_BOUNDED: list[bool] = []


def _reason(error: Exception) -> str:
    """The first line of what ONNX Runtime says, without its codes."""
    text = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return text.rpartition(" : ")[2][:300]


@dataclass(frozen=True)
class Classifier:
    """A model file, loaded. Call it with a recording.

    Attributes:
        name: where it comes from.
        facts: labels, sample rate, window policy and all else the file says of itself.
        session: the ONNX Runtime session.
        columns: None, or a (old, new) matrix that sums the graph's probabilities into a view's classes.
    """

    name: str
    facts: modelfile.Facts
    session: Any
    columns: np.ndarray | None = None

    @property
    def labels(self) -> tuple[str, ...]:
        """Class names, in the order of every probability column."""
        return self.facts.labels

    @property
    def sample_rate(self) -> int:
        """Hz of the waveforms that `predict_proba` and `embed` take."""
        return self.facts.sample_rate

    @property
    def policy(self) -> WindowPolicy:
        """How a recording becomes input."""
        return self.facts.policy

    @property
    def thresholds(self) -> dict[str, float]:
        """By label, for the labels that have one."""
        return self.facts.thresholds

    @property
    def metadata(self) -> dict[str, Any]:
        """Everything the file says of itself: task, measured scores, training data, licence and so on."""
        return self.facts.metadata

    def __repr__(self) -> str:
        return f"<Classifier {self.name}: {len(self.labels)} labels at {self.sample_rate} Hz>"

    def __call__(self, source: Source, top_k: int | None = 5, *, unknown: bool = False) -> list[dict[str, Any]]:
        """The labels of a recording, best first, as Hugging Face's `audio-classification` answers.

        Args:
            source: a path, bytes, a binary file object, or (array, sample rate).
            top_k: how many labels; None gives all.
            unknown: answer `unknown` first where the best label scores below the file's own threshold; its score is
                what the best label leaves of 1.

        Returns:
            `[{"label": str, "score": float}, ...]`. Recordings much longer than the training clips are cut into
            windows, whose scores are combined by the model's policy.

        Raises:
            AudioError: if the recording cannot be read.
            ModelError: if the graph fails on it, or the file has no threshold for what is unknown.
        """
        below = self.unknown_below if unknown else None
        rows = [probabilities for _, _, probabilities in self.windows(source)]
        return self.top(self.combine(rows), top_k, unknown_below=below)

    @property
    def unknown_below(self) -> float:
        """The score of the best label below which a sound is unknown.

        Raises:
            ModelError: if the file says nothing of that.
        """
        if self.facts.unknown_below is None:
            raise ModelError(
                f"{self.name} has no threshold below which a sound is unknown: views and older files have none; "
                "take the model without a view, or train it again"
            )
        return self.facts.unknown_below

    def combine(self, rows: Sequence[np.ndarray]) -> np.ndarray:
        """(classes,) probabilities of a recording from those of its windows, by the model's policy."""
        table = np.stack(rows)
        combined: np.ndarray = table.max(axis=0) if self.policy.combine == "max" else table.mean(axis=0)
        return combined

    def top(
        self, probabilities: np.ndarray, top_k: int | None = 5, *, unknown_below: float | None = None
    ) -> list[dict[str, Any]]:
        """The best `top_k` of (classes,) probabilities, as labels with scores; ties in the order of the labels.

        Where the best is below `unknown_below`, `unknown` comes before it and counts among the `top_k`.
        """
        order = np.argsort(-probabilities, kind="stable")
        answers = [{"label": self.labels[i], "score": float(probabilities[i])} for i in order[:top_k]]
        best = float(probabilities[order[0]])
        if unknown_below is not None and best < unknown_below:
            answers = [{"label": UNKNOWN, "score": 1.0 - best}, *answers][:top_k]
        return answers

    def windows(
        self, source: Source, window_seconds: float | None = None, hop_seconds: float | None = None
    ) -> Iterator[tuple[float, float, np.ndarray]]:
        """Probabilities over the time of a recording of any length, in constant memory.

        Every window has the same length; where the hop does not divide the recording, the last one is moved back to
        end with it. A recording shorter than a window is one window, filled by the model's policy.

        Args:
            source: as for a call.
            window_seconds: length of the windows. None takes the policy's; where that takes any length, a recording up
                to 1.5 times as long as the longest training clip is one window, and a longer one is cut into windows
                as long as the median training clip.
            hop_seconds: time between the starts of windows; None takes the policy's, or sets them end to end.

        Yields:
            (start, end, probabilities): seconds, and (classes,).

        Raises:
            AudioError: if the recording cannot be read, or a window or hop is not above 0.
            ModelError: if the graph fails on it.
        """
        return self._said(self.cut(source, window_seconds, hop_seconds))

    def cut(
        self, source: Source, window_seconds: float | None = None, hop_seconds: float | None = None
    ) -> Iterator[Window]:
        """The windows that `windows` hears, as they are cut: the last or only one is not filled yet.

        The arguments and errors are those of `windows`.
        """
        for value in (window_seconds, hop_seconds):
            if value is not None and not 0 < value <= WHOLE_SECONDS:
                raise AudioError(f"windows and hops are above 0 and up to {WHOLE_SECONDS:g} s, not {value}")
        length = window_seconds or self.policy.window_seconds
        hop = hop_seconds or (0.0 if window_seconds else self.policy.hop_seconds)
        median, longest = self.facts.clip_seconds
        whole = length or min(max(WHOLE_FACTOR * longest, self.policy.min_seconds), WHOLE_SECONDS)
        whole = samples_of(whole, self.sample_rate) / self.sample_rate  # chunks meet end to end, to the sample
        chunks = audio.windows(source, self.sample_rate, whole)
        length = length or min(max(median, self.policy.min_seconds), WHOLE_SECONDS)
        return _cut(chunks, self.sample_rate, length, hop)

    def _said(self, windows: Iterable[Window]) -> Iterator[tuple[float, float, np.ndarray]]:
        for held in alike(windows, self._rows):
            probabilities = self.predict_proba(np.stack([window.waveform for window in held]))
            for window, row in zip(held, probabilities, strict=True):
                yield window.start, window.end, row

    def predict_proba(self, waveforms: np.ndarray) -> np.ndarray:
        """Probabilities of waveforms, each heard whole.

        Args:
            waveforms: (batch, samples) or (samples,) floats in [-1, 1], mono, at `sample_rate`. Short ones are filled
                by the policy.

        Returns:
            (batch, classes) float32.

        Raises:
            AudioError: if they are not finite floats of that shape.
            ModelError: if the graph fails on them.
        """
        probabilities = self._run("probabilities", waveforms)
        if self.columns is None:
            return probabilities
        if self.facts.kind == "multi":  # classes that may occur together do not add up: the surest speaks for all
            masked = probabilities[:, :, None] * self.columns[None]
            return np.asarray(masked.max(axis=1), dtype=np.float32)
        return np.asarray(probabilities @ self.columns, dtype=np.float32)

    def embed(self, waveforms: np.ndarray) -> np.ndarray:
        """Vectors of waveforms; as `predict_proba`, and (batch, dim) float32 comes back."""
        return self._run("embedding", waveforms)

    def _rows(self, samples: int) -> int:
        """How many waveforms of so many samples go through the graph at once."""
        return max(1, int(BATCH_SECONDS * self.sample_rate / max(1, samples)))

    def _run(self, output: str, waveforms: np.ndarray) -> np.ndarray:
        batch = np.asarray(waveforms)
        batch = batch[None] if batch.ndim == 1 else batch
        if batch.ndim != 2 or not batch.size or batch.dtype.kind != "f":
            raise AudioError(
                f"cannot hear {batch.dtype} of shape {np.shape(waveforms)}: give floats (batch, samples), with samples"
            )
        batch = batch.astype(np.float32, copy=False)
        if not np.isfinite(batch).all():
            raise AudioError("the waveforms hold NaN or infinite samples")
        shortest = samples_of(max(self.policy.min_seconds, self.policy.window_seconds), self.sample_rate)
        if batch.shape[1] < shortest:
            batch = np.stack([self.policy.prepare(row, self.sample_rate) for row in batch])
        rows = self._rows(batch.shape[1])
        parts = [self._part(output, batch[i : i + rows]) for i in range(0, len(batch), rows)]
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def _part(self, output: str, batch: np.ndarray) -> np.ndarray:
        try:
            said = self.session.run([output], {modelfile.INPUT: np.ascontiguousarray(batch)})[0]
        except Exception as error:  # ONNX Runtime's exceptions have no common base
            raise ModelError(
                f"{self.name} fails on {len(batch)} waveforms of {batch.shape[1]} samples: {_reason(error)}"
            ) from None
        columns = len(self.columns) if self.columns is not None else len(self.labels)
        if said.ndim != 2 or len(said) != len(batch) or (output == "probabilities" and said.shape[1] != columns):
            raise ModelError(
                f"{self.name} gives {output} of shape {said.shape} for {len(batch)} waveforms; it is damaged"
            )
        if not np.isfinite(said).all():
            raise ModelError(f"{self.name} gives {output} that are not numbers for these waveforms")
        result: np.ndarray = said
        return result

    def with_view(self, view: View) -> Classifier:
        """The same model with coarser labels: probabilities of the classes that a view joins are summed.

        A view that leaves classes out leaves their probability out, so that scores then sum to less than one. The
        thresholds are those that the file holds for the view, if any.

        Args:
            view: such as `soundmark.tasks.load_view("danger", "esc50")`.

        Raises:
            TaskError: if the view names classes that the model lacks.
        """
        matrix, labels = view.matrix(self.labels)
        columns = matrix if self.columns is None else self.columns @ matrix
        known = self.facts.view_thresholds.get(view.name, {})
        thresholds = {label: value for label, value in known.items() if label in labels}
        metadata = self.metadata | {"labels": list(labels), "view": view.name, "thresholds": thresholds}
        metadata.pop("unknown_below", None)
        facts = replace(self.facts, labels=tuple(labels), thresholds=thresholds, metadata=metadata, unknown_below=None)
        return replace(self, facts=facts, columns=columns)


def _cut(chunks: Iterator[Window], rate: int, length: float, hop: float) -> Iterator[Window]:
    """Windows of `length` seconds from consecutive chunks of a recording; the recording itself if it is one chunk.

    The last window ends where the recording ends, since a remainder of a moment would say nothing and count as much as
    the others; a remainder of less than a hundredth of a window is let go.
    """
    first = next(chunks)
    second = next(chunks, None)
    if second is None:
        yield first
        return
    samples, step = samples_of(length, rate), max(1.0, (hop or length) * rate)
    held, position, begin, count = first.waveform, 0, 0, 0
    for chunk in _chain(second, chunks):
        held = np.concatenate([held, chunk.waveform])
        while begin + samples <= position + len(held):
            yield _window(held, begin - position, samples, begin, rate)
            count += 1
            last, begin = begin, round(count * step)
        keep = min(begin, position + len(held) - samples)  # the last window may have to reach back so far
        if keep > position:
            held, position = held[keep - position :], keep
    total = position + len(held)
    if last + samples + samples // 100 < total:
        yield _window(held, total - samples - position, samples, total - samples, rate)


def _window(held: np.ndarray, offset: int, samples: int, begin: int, rate: int) -> Window:
    return Window(begin / rate, (begin + samples) / rate, held[offset : offset + samples])


def _chain(first: Window, rest: Iterator[Window]) -> Iterator[Window]:
    yield first
    yield from rest
