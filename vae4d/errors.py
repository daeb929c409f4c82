"""Errors a user can act on.

Every message is one or two sentences: what is wrong, with the file or the value, and the remedy.
The command line and the runner print these messages without a traceback.
"""


class Vae4dError(Exception):
    """Base of all errors that vae4d raises on purpose."""


class ConfigError(Vae4dError, ValueError):
    """An unknown name or a value out of range: preset, parameter, data set, option."""


class VideoError(Vae4dError):
    """A video or a folder of frames that cannot be read or written."""


class ClipError(Vae4dError):
    """Clips that were read but cannot serve: too short, none left, a damaged cache."""


class CheckpointError(Vae4dError):
    """A checkpoint that is missing, damaged, or made for another model."""


class AssetError(Vae4dError):
    """Weights or sample clips that could not be fetched or failed their checksum."""


class StorageError(Vae4dError):
    """The disk is full or the folder cannot be written."""


class MissingInputError(Vae4dError, FileNotFoundError):
    """A step was started before the step that makes its input."""


class TrainingError(Vae4dError):
    """Training stopped because going on would be wrong (a loss that is not finite)."""


class MethodError(Vae4dError):
    """A method that is scored failed, or returned something that is no frame; it loses its row, the run goes on."""


class NotebookError(Vae4dError):
    """A notebook failed in the runner."""
