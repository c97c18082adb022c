"""Small img2img pipelines in the layout of the Hub, made here: random weights, all parts of a large one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    EulerDiscreteScheduler,
    LCMScheduler,
    PNDMScheduler,
    StableDiffusionImg2ImgPipeline,
    StableDiffusionXLImg2ImgPipeline,
    UNet2DConditionModel,
)
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

from clip_words import write_clip_tokenizer

__all__ = ["save_sd", "save_sdxl"]

SCHEDULE = {
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "num_train_timesteps": 1000,
    "steps_offset": 1,
}
SCHEDULERS = {
    "sd": lambda: PNDMScheduler(**SCHEDULE, skip_prk_steps=True),
    "turbo": lambda: EulerDiscreteScheduler(**SCHEDULE, timestep_spacing="trailing"),
    "lcm": lambda: LCMScheduler(**SCHEDULE),
}
"""As Stable Diffusion 1.5, SD-Turbo and LCM have them."""


def _unet(**more: Any) -> UNet2DConditionModel:
    return UNet2DConditionModel(
        sample_size=8,
        layers_per_block=1,
        block_out_channels=(32, 64),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        norm_num_groups=8,
        attention_head_dim=8,
        **more,
    )


def _vae() -> AutoencoderKL:
    return AutoencoderKL(
        sample_size=64,
        block_out_channels=(16, 32, 32, 32),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        norm_num_groups=8,
    )


def _text_config(width: int, projection: int) -> CLIPTextConfig:
    return CLIPTextConfig(
        hidden_size=width,
        projection_dim=projection,
        intermediate_size=2 * width,
        num_hidden_layers=2,
        num_attention_heads=2,
        vocab_size=49_408,
        bos_token_id=49_406,
        eos_token_id=49_407,
        pad_token_id=49_407,
    )


def _tokenizer(folder: Path) -> CLIPTokenizer:
    write_clip_tokenizer(folder)
    return CLIPTokenizer.from_pretrained(folder, model_max_length=77)


def save_sd(folder: Path, kind: str = "turbo") -> Path:
    """A pipeline as Stable Diffusion 1.5 (``sd``), SD-Turbo or LCM is made; 64 pixels, 5 MB."""
    torch.manual_seed(0)
    pipe = StableDiffusionImg2ImgPipeline(
        vae=_vae(),
        text_encoder=CLIPTextModel(_text_config(32, 32)),
        tokenizer=_tokenizer(folder / "words"),
        unet=_unet(cross_attention_dim=32, **({"time_cond_proj_dim": 32} if kind == "lcm" else {})),
        scheduler=SCHEDULERS[kind](),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipe.save_pretrained(folder / "pipe")
    return folder / "pipe"


def save_sdxl(folder: Path) -> Path:
    """A pipeline as SDXL-Turbo is made; 64 pixels, 9 MB."""
    torch.manual_seed(0)
    words = _tokenizer(folder / "words")
    unet = _unet(
        cross_attention_dim=64,
        addition_embed_type="text_time",
        addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=32 + 6 * 8,
        use_linear_projection=True,
    )
    pipe = StableDiffusionXLImg2ImgPipeline(
        vae=_vae(),
        text_encoder=CLIPTextModel(_text_config(32, 32)),
        text_encoder_2=CLIPTextModelWithProjection(_text_config(32, 32)),
        tokenizer=words,
        tokenizer_2=words,
        unet=unet,
        scheduler=SCHEDULERS["turbo"](),
    )
    pipe.save_pretrained(folder / "pipe")
    return folder / "pipe"
