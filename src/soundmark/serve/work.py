"""From a recording to what a model says of it, window by window: decoding, cutting and graphs put together."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from soundmark.audio import Window
from soundmark.audio.waveforms import alike, samples_of
from soundmark.errors import AudioError, ModelError
from soundmark.serve.batches import Batches
from soundmark.serve.decoders import Decoders, Sound
from soundmark.serve.feed import Feed
from soundmark.serve.meters import Meters
from soundmark.serve.models import Served
from soundmark.serve.problems import Problem
from soundmark.serve.settings import Settings

MEASURE_SECONDS = 2.0


@dataclass(frozen=True)
class Heard:
    """What a model says over the time of a recording.

    Attributes:
        starts: (windows,) seconds.
        ends: (windows,) seconds.
        rows: (windows, labels) probabilities, or (windows, dim) vectors.
        sound: the recording, without its waveform's samples.
        duration: seconds.
    """

    starts: list[float]
    ends: list[float]
    rows: np.ndarray
    sound: Sound
    duration: float


class Service:
    """All that requests share. It belongs to one event loop.

    Attributes:
        models: by name; the first answers where none is asked for.
        settings: limits and keys.
        decoders: the processes that decode.
        batches: the queue before the graphs.
        feed: what streams publish.
        meters: what is counted.
        serving: requests being served.
        streams: open streams.
        closing: whether the service is being stopped.
    """

    def __init__(self, models: dict[str, Served], settings: Settings) -> None:
        self.models, self.settings = models, settings
        self.meters = Meters()
        self.decoders = Decoders(settings)
        self.batches = Batches(settings, self.meters.ran)
        self.feed = Feed(settings.max_followers)
        self.serving = self.streams = 0
        self.closing = False
        self._measuring: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Start the processes that decode, and have every graph run once, so that the first request is as quick."""
        await self.decoders.start()
        self.batches.start()
        for model in self.models.values():
            classifier = model.classifier
            length = samples_of(max(1.0, classifier.facts.clip_seconds[0]), classifier.sample_rate)
            silence = np.zeros((1, min(length, 10 * classifier.sample_rate)), np.float32)
            await self.batches.ask((model.name, "start"), classifier.predict_proba, silence)

        self._measuring = asyncio.get_running_loop().create_task(self._measure())

    async def close(self) -> None:
        """End everything."""
        self.close_soon()
        if self._measuring:
            self._measuring.cancel()
            await asyncio.gather(self._measuring, return_exceptions=True)
        await self.batches.close()
        await self.decoders.close()

    def close_soon(self) -> None:
        """Take nothing new, and let those go who would listen for ever."""
        self.closing = True
        self.feed.close()

    def measure(self) -> None:
        """Set the gauges."""
        gauges, decoders = self.meters.gauges, self.decoders
        gauges["serving"].set(self.serving)
        gauges["waiting"].set(self.batches.waiting)
        gauges["streams"].set(self.streams)
        gauges["decoders"].set(len(decoders.processes))
        for reason, count in decoders.lost.items():
            self.meters.lost.labels(reason).set(count)

    async def _measure(self) -> None:
        """Again and again: another server process may be the one that is asked."""
        while True:
            self.measure()
            await asyncio.sleep(MEASURE_SECONDS)

    @property
    def ready(self) -> bool:
        """Whether a request would be served now."""
        return self.decoders.ready and not self.closing

    def model(self, name: str | None) -> Served:
        """A model by name.

        Raises:
            Problem: 404 if there is none.
        """
        if name is None:
            return next(iter(self.models.values()))
        if name not in self.models:
            raise Problem(404, "no_model", f"there is no model {name[:80]!r}; there are: {', '.join(self.models)}")
        return self.models[name]

    async def listen(
        self, content: bytes, model: Served, window: float | None = None, hop: float | None = None,
        *, output: str = "probabilities",
    ) -> Heard:  # fmt: skip
        """Decode a recording and have a model hear it.

        Args:
            content: a whole file.
            model: which.
            window: seconds of the windows; None takes the model's.
            hop: seconds between them; None takes the model's.
            output: `probabilities` or `embedding`.

        Raises:
            Problem: if it cannot be decoded, is beyond a limit, or the graph fails.
        """
        self.batches.admit()
        started = time.perf_counter()
        try:
            sound = await self.decoders.decode(content, model.classifier.sample_rate)
        finally:
            self.meters.decoded(time.perf_counter() - started)
        duration = len(sound.waveform) / model.classifier.sample_rate
        self.meters.heard(duration)
        self._check_count(duration, model, window, hop)
        self.batches.admit()
        starts, ends, said = [], [], []
        try:
            for group in self._groups(sound, model, window, hop):
                rows = np.stack([part.waveform for part in group])
                said.append(await self.ask(model, rows, output))
                starts += [round(part.start, 6) for part in group]
                ends += [round(part.end, 6) for part in group]
        except AudioError as error:
            raise Problem(422, "bad_setting", str(error)) from None
        bare = Sound(sound.waveform[:0], sound.sample_rate, sound.channels, sound.format)
        return Heard(starts, ends, np.concatenate(said), bare, duration)

    async def ask(self, model: Served, rows: np.ndarray, output: str = "probabilities") -> np.ndarray:
        """What a model says of (batch, samples) waveforms of the length it hears.

        Raises:
            Problem: 500 if the graph fails.
        """
        graph = model.classifier.predict_proba if output == "probabilities" else model.classifier.embed
        try:
            return await self.batches.ask((model.name, output), graph, rows)
        except ModelError as error:
            raise Problem(500, "model_failed", str(error)) from None

    def _check_count(self, duration: float, model: Served, window: float | None, hop: float | None) -> None:
        policy = model.classifier.policy
        step = hop or window or policy.hop_seconds or policy.window_seconds or model.classifier.facts.clip_seconds[0]
        if duration / step > self.settings.max_windows:
            raise Problem(
                422, "too_many_windows",
                f"{duration:.1f} s in steps of {step:g} s are more than {self.settings.max_windows} windows, the most "
                "that one request may ask for: make them longer, or send a part",
            )  # fmt: skip

    def _groups(self, sound: Sound, model: Served, window: float | None, hop: float | None) -> Iterator[list[Window]]:
        """Windows of equal length, filled by the model's policy, a few at a time so that others have their turn."""
        classifier = model.classifier
        filled = (
            Window(part.start, part.end, classifier.policy.prepare(part.waveform, classifier.sample_rate))
            for part in classifier.cut((sound.waveform, classifier.sample_rate), window, hop)
        )
        return alike(filled, lambda samples: self.settings.batch_rows)
