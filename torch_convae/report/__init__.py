"""Runs as one HTML page that needs nothing else."""

from .page import page
from .record import Record, read_runs

__all__ = ["Record", "page", "read_runs"]
