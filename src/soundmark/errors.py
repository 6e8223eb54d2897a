"""Errors that speak to the user: what went wrong, in which file, and what to do.

Every error a user can cause is a `SoundmarkError`. The command line prints its message and nothing else; anything
that is not a `SoundmarkError` is a bug of ours.
"""


class SoundmarkError(Exception):
    """Base of every error a user can cause. The message says what, where and what to do."""


class AudioError(SoundmarkError, ValueError):
    """A recording cannot be read, or holds nothing that can be heard."""


class RemoteError(SoundmarkError, OSError):
    """What is at an address cannot be read or listed."""


class SpecError(SoundmarkError, ValueError):
    """A name in the grammar (`task:view`, `encoder@layer?setting=value`) is unknown or malformed."""


class TaskError(SoundmarkError, ValueError):
    """A task's files, table or view are missing or do not agree."""


class LeakError(TaskError):
    """A group (source recording, speaker, patient) stands on both sides of a split."""


class DownloadError(SoundmarkError, OSError):
    """A file could not be fetched, or what came is not what was expected."""


class DamagedArchive(DownloadError):
    """A file is damaged, or no archive that we can unpack."""


class WeightsError(SoundmarkError, ValueError):
    """A file of pretrained weights is damaged, is not the published one, or does not fit its network.

    Attributes:
        faults: every tensor that does not fit, where that is the trouble.
    """

    faults: tuple[str, ...] = ()


class ModelError(SoundmarkError, ValueError):
    """A model file is not one of ours, is unsafe, or does not fit what is asked of it."""


class NotExportable(ModelError):
    """A learner has no graph, so no model file can be written from it."""


class ResultsError(SoundmarkError, ValueError):
    """A run's folder is missing, incomplete, or cannot be compared with another."""


class MissingExtra(SoundmarkError, ImportError):
    """An optional dependency is not installed; the message names the extra to install."""


class EventError(SoundmarkError, ValueError):
    """Settings of events, windows out of order, or a file of events cannot be used."""


class ListenError(SoundmarkError, ValueError):
    """A live source, or what is to be done on an event, cannot be used."""


class ServeError(SoundmarkError, OSError):
    """A service cannot be started: nothing can listen under the address asked for."""
