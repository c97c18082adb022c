"""Picture files as programs write them: the names of chunks and fields, the form of the texts."""

from __future__ import annotations

import io
import json
import struct
import zlib
from typing import Any

from PIL import Image, PngImagePlugin

PROMPT = "a harbour at dusk, (boats:1.2), <lora:old:0.6>"
NEGATIVE = "blurry, people"
INFOTEXT = (
    f"{PROMPT}\nin the rain\nNegative prompt: {NEGATIVE}\n"
    "Steps: 20, Sampler: DPM++ 2M Karras, CFG scale: 6.5, Seed: 965400086, Size: 512x768, "
    "Model hash: 31e35c80fc, "
    'Model: sd_xl_base, Denoising strength: 0.45, Lora hashes: "old: 1f2e, new: 3c4d", Version: v1.10.1'
)
GRAPH: dict[str, Any] = {
    "3": {
        "class_type": "KSampler",
        "inputs": {
            "seed": 156680208700286, "steps": 20, "cfg": 8, "sampler_name": "euler", "scheduler": "normal",
            "denoise": 0.87, "model": ["4", 0], "positive": ["12", 0], "negative": ["7", 0],
            "latent_image": ["5", 0],
        },
    },
    "4": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "v1-5.safetensors"}},
    "5": {"class_type": "EmptyLatentImage", "inputs": {"width": 512, "height": 640, "batch_size": 1}},
    "6": {"class_type": "CLIPTextEncode", "inputs": {"text": ["20", 0], "clip": ["4", 1]}},
    "7": {"class_type": "CLIPTextEncode", "inputs": {"text": NEGATIVE, "clip": ["4", 1]}},
    "8": {"class_type": "VAEDecode", "inputs": {"samples": ["3", 0], "vae": ["4", 2]}},
    "9": {"class_type": "SaveImage", "inputs": {"filename_prefix": "ComfyUI", "images": ["8", 0]}},
    "12": {"class_type": "ConditioningSetArea", "inputs": {"conditioning": ["6", 0], "strength": 1.0}},
    "20": {"class_type": "Some Text Box (custom)", "inputs": {"string": PROMPT}},
}  # fmt: skip
FLUX: dict[str, Any] = {
    "1": {"class_type": "UNETLoader", "inputs": {"unet_name": "flux1-dev.sft", "weight_dtype": "default"}},
    "2": {"class_type": "CLIPTextEncode", "inputs": {"text": PROMPT, "clip": ["3", 0]}},
    "3": {"class_type": "DualCLIPLoader", "inputs": {"clip_name1": "t5.safetensors"}},
    "4": {"class_type": "FluxGuidance", "inputs": {"guidance": 3.5, "conditioning": ["2", 0]}},
    "5": {"class_type": "BasicGuider", "inputs": {"model": ["1", 0], "conditioning": ["4", 0]}},
    "6": {"class_type": "RandomNoise", "inputs": {"noise_seed": 77}},
    "7": {"class_type": "KSamplerSelect", "inputs": {"sampler_name": "euler"}},
    "8": {"class_type": "BasicScheduler", "inputs": {"scheduler": "simple", "steps": 28, "denoise": 1.0}},
    "9": {
        "class_type": "SamplerCustomAdvanced",
        "inputs": {"noise": ["6", 0], "guider": ["5", 0], "sampler": ["7", 0], "sigmas": ["8", 0],
                   "latent_image": ["10", 0]},
    },
    "10": {"class_type": "EmptySD3LatentImage", "inputs": {"width": 1024, "height": 768}},
    "11": {"class_type": "VAEDecode", "inputs": {"samples": ["9", 0]}},
    "12": {"class_type": "SaveImage", "inputs": {"images": ["11", 0]}},
}  # fmt: skip
INVOKEAI = {
    "generation_mode": "txt2img", "positive_prompt": PROMPT, "negative_prompt": NEGATIVE, "width": 512,
    "height": 512, "seed": 1841402034, "cfg_scale": 7.5, "steps": 30, "scheduler": "euler", "strength": 0.6,
    "model": {"key": "9a8b", "hash": "blake3:1", "name": "dreamshaper-8", "base": "sd-1"}, "loras": [],
    "app_version": "5.0.2",
}  # fmt: skip
SD_METADATA = {
    "model": "stable diffusion", "model_weights": "sd-v1-4",
    "image": {
        "prompt": [{"prompt": PROMPT, "weight": 1.0}], "steps": 50, "cfg_scale": 7.5, "sampler": "k_lms",
        "seed": 42, "width": 512, "height": 512, "type": "txt2img",
    },
}  # fmt: skip
DREAM = f'"{PROMPT}" -s 50 -S 3312 -W 512 -H 704 -C 7.5 -A k_euler_a'
FOOOCUS = {
    "prompt": PROMPT, "negative_prompt": NEGATIVE, "steps": 30, "guidance_scale": 4.0, "seed": "8291",
    "resolution": "(1152, 896)", "base_model": "juggernautXL", "sampler": "dpmpp_2m_sde_gpu",
    "scheduler": "karras", "version": "Fooocus v2.5.5", "styles": "['Fooocus V2']",
}  # fmt: skip
SWARMUI = {
    "sui_image_params": {
        "prompt": PROMPT, "negativeprompt": NEGATIVE, "model": "OfficialStableDiffusion/sd_xl_base_1.0",
        "seed": 1, "steps": 20, "cfgscale": 7.0, "width": 1024, "height": 1024, "sampler": "euler",
        "initimagecreativity": 0.6, "swarm_version": "0.9.3.1",
    },
    "sui_extra_data": {"date": "2026-01-01"},
}  # fmt: skip
NOVELAI = {
    "prompt": PROMPT, "steps": 28, "height": 1216, "width": 832, "scale": 5.0, "uncond_scale": 0.0,
    "seed": 2917, "sampler": "k_euler", "uc": NEGATIVE, "request_type": "PromptGenerateRequest",
}  # fmt: skip
NOVELAI_4 = {
    "steps": 23, "seed": 5, "scale": 6, "uc": "",
    "v4_prompt": {"caption": {"base_caption": PROMPT, "char_captions": []}, "use_coords": False},
    "v4_negative_prompt": {"caption": {"base_caption": NEGATIVE, "char_captions": []}},
}  # fmt: skip


def png(texts: dict[str, str], *, packed: bool = False, international: bool = False) -> bytes:
    """A small PNG with these texts, as tEXt, zTXt or iTXt."""
    info = PngImagePlugin.PngInfo()
    for name, text in texts.items():
        if international:
            info.add_itxt(name, text, zip=packed)
        else:
            info.add_text(name, text, zip=packed)
    buffer = io.BytesIO()
    Image.new("RGB", (8, 6), (90, 120, 30)).save(buffer, format="PNG", pnginfo=info)
    return buffer.getvalue()


def with_comment(kind: str, comment: bytes, **more: Any) -> bytes:
    """A small JPEG or WebP with a UserComment in EXIF."""
    exif = Image.Exif()
    exif.get_ifd(0x8769)[0x9286] = comment
    for tag, value in more.pop("tags", {}).items():
        exif[tag] = value
    for tag, value in more.pop("inner", {}).items():
        exif.get_ifd(0x8769)[tag] = value
    buffer = io.BytesIO()
    Image.new("RGB", (8, 6), (90, 120, 30)).save(buffer, format=kind, exif=exif.tobytes(), **more)
    return buffer.getvalue()


def chunk(kind: bytes, content: bytes) -> bytes:
    """A chunk of a PNG."""
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def with_chunk(kind: bytes, content: bytes, *, late: bool = False) -> bytes:
    """A small PNG with a chunk of any content, before its pixels or after."""
    data = png({})
    place = data.index(b"IEND" if late else b"IDAT") - 4
    return data[:place] + chunk(kind, content) + data[place:]


def everything() -> dict[str, bytes]:
    """A file of every program."""
    return {
        "a1111": png({"parameters": INFOTEXT}),
        "comfyui": png({"prompt": json.dumps(GRAPH), "workflow": json.dumps({"nodes": []})}),
        "flux": png({"prompt": json.dumps(FLUX)}),
        "invokeai": png({"invokeai_metadata": json.dumps(INVOKEAI)}, international=True),
        "sd-metadata": png({"sd-metadata": json.dumps(SD_METADATA)}),
        "dream": png({"Dream": DREAM}),
        "fooocus": png({"parameters": json.dumps(FOOOCUS), "fooocus_scheme": "fooocus"}),
        "fooocus a1111": png({"parameters": INFOTEXT, "fooocus_scheme": "a1111"}),
        "swarmui": png({"parameters": json.dumps(SWARMUI)}),
        "novelai": png(
            {"Title": "AI generated image", "Description": PROMPT, "Software": "NovelAI",
             "Source": "NovelAI Diffusion V3 8BB1", "Comment": json.dumps(NOVELAI)}
        ),
        "novelai 4": png(
            {"Software": "NovelAI", "Source": "NovelAI Diffusion V4", "Comment": json.dumps(NOVELAI_4)}
        ),
    }  # fmt: skip
