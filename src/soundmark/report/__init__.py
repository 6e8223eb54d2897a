"""The report of a run: one self-contained page, and its figures as files. It reads results and clips, nothing else."""

from soundmark.report.page import write

__all__ = ["write"]
