"""What suits a model of diffusers: how many steps, how much guidance. Nothing is loaded here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

__all__ = ["Kind", "kind_of", "steps_for"]


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of model.

    Attributes:
        name: For people.
        steps: Of a whole generation, of which ``strength`` are run.
        guidance: Guidance scale.
        embeds_guidance: Whether the network was told the guidance in its training (LCM): then there is no
            second run without the prompt.
    """

    name: str
    steps: int
    guidance: float
    embeds_guidance: bool = False


_TURBO = Kind("a turbo model", 2, 0.0)  # Sauer et al. 2023: one to four steps, no guidance
_LCM = Kind("a latent consistency model", 4, 8.0, embeds_guidance=True)  # Luo et al. 2023
_LCM_LORA = Kind("a model with an LCM adapter", 4, 1.0)
_SDXL = Kind("SDXL", 20, 5.0)
_SD = Kind("Stable Diffusion", 20, 7.5)
_OTHER = Kind("a transformer", 20, 3.5)


def kind_of(model: str, pipe: Any) -> Kind:
    """The kind of a loaded pipeline, by its parts, and by its name where they do not tell.

    Args:
        model: Repository or folder.
        pipe: The pipeline.
    """
    unet, name = getattr(pipe, "unet", None), model.lower()
    scheduler = type(pipe.scheduler).__name__
    if unet is None:
        return _TURBO if "turbo" in name or "schnell" in name else _OTHER
    if getattr(unet.config, "time_cond_proj_dim", None) is not None:
        return _LCM
    if scheduler.startswith("LCM"):
        return _LCM_LORA
    if scheduler.startswith("Euler") and pipe.scheduler.config.get("timestep_spacing") == "trailing":
        return _TURBO
    if "turbo" in name or "lightning" in name or "hyper-sd" in name:
        return _TURBO
    return _SDXL if "XL" in type(pipe).__name__ else _SD


def steps_for(steps: int, strength: float) -> int:
    """So many steps, or more where none of them would be run: at least one of ``int(steps * strength)``.

    Args:
        steps: That are asked for, at least 1.
        strength: In (0, 1].
    """
    while int(steps * strength) < 1:
        steps += 1
    return steps
