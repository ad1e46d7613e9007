"""What each training does: its models, its stages, and what it is measured by."""

from __future__ import annotations

from collections.abc import Mapping

from . import convae, densenet, segnet, unet, vae_gru
from .build import build, weights_file
from .listing import listing
from .recipe import Built, Order, Recipe

# Behind a colon: the same recipe on another network, with that one's own defaults.
RECIPES: Mapping[str, Recipe] = {
    "convae": convae.RECIPE,
    "unet": unet.VGG16_UNET,
    "unet:azavea_unet": unet.AZAVEA,
    "unet:jocicmarko_unet": unet.JOCICMARKO,
    "unet:zhixuhao_unet": unet.ZHIXUHAO,
    "unet:shallow_unet": unet.SHALLOW,
    "segnet": segnet.SEGNET,
    "segnet:segnet_basic": segnet.SEGNET_BASIC,
    "segnet:bayesian_segnet": segnet.BAYESIAN,
    "vae-gru": vae_gru.RECIPE,
    "densenet": densenet.RECIPE,
}

__all__ = ["RECIPES", "Built", "Order", "Recipe", "build", "listing", "weights_file"]
