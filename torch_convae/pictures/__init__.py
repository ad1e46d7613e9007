"""Pictures: of a run, and what they are made of."""

from .of_run import draw_curves, draw_phase

__all__ = ["draw_curves", "draw_phase"]
