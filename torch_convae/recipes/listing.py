"""The recipes with their defaults, in one screen."""

from __future__ import annotations

from collections.abc import Mapping

from ..training import Stage
from .recipe import Recipe


def listing(recipes: Mapping[str, Recipe]) -> str:
    """One paragraph a recipe: what it does, on what, and its stages; a line each for its other networks."""
    paragraphs: list[str] = []
    for name, recipe in recipes.items():
        if ":" in name:
            paragraphs[-1] += f"\n  or {name}\n    {recipe.about}"
        else:
            paragraphs.append("\n".join([name, f"  {recipe.about}", f"  {_defaults(recipe)}", *_stages(recipe)]))
    return "\n".join(paragraphs)


def _defaults(recipe: Recipe) -> str:
    asked = {"data": recipe.data or "FOLDER", "batch-size": recipe.batch_size}
    asked |= {} if recipe.task == "sequences" else {"loss": recipe.loss}
    asked |= {"class-weights": recipe.class_weights, "augment": recipe.augment, "size": recipe.size}
    return "  ".join(f"--{flag} {value}" for flag, value in asked.items() if value not in (None, "none"))


def _stages(recipe: Recipe) -> list[str]:
    return [f"  {stage.name:9} {_stage(stage)}" for stage in recipe.stages]


def _stage(stage: Stage) -> str:
    falls = "falling to 0" if stage.decay else f"falling {len(stage.drops)} times" if stage.drops else ""
    falls = f"falling after {stage.plateau} epochs no better" if stage.plateau else falls
    epochs = f"{stage.epochs} epoch{'' if stage.epochs == 1 else 's'}"
    later = [f"{', '.join(each.train)} at {stage.lr * each.rate:g}" for each in stage.release]
    parts = [epochs, f"{stage.optimizer} at {stage.lr:g}", falls, f"trains {', '.join(stage.train)}", *later]
    return ", ".join(part for part in parts if part)
