"""Small pipelines of all families, as folders of diffusers with seeded random weights.

Images of 32 pixels give latents of 16 × 16; those of transformers give 8 × 8 tokens.
"""

from pathlib import Path
from typing import Any

import diffusers
import torch
import transformers
from safetensors.torch import save_file

from backbones.small_diffusion import ARCHITECTURE, SCHEDULER, TEXT, edit_weights, write_json, write_tokenizer
from bddn.backbones.diffusion.families import FAMILIES
from bddn.spec import CacheSpec, DiffusionSpec

VAE: dict[str, Any] = {
    "block_out_channels": [8, 8],
    "down_block_types": ["DownEncoderBlock2D"] * 2,
    "up_block_types": ["UpDecoderBlock2D"] * 2,
    "layers_per_block": 1,
    "norm_num_groups": 4,
    "latent_channels": 4,
    "scaling_factor": 4.0,
    "mid_block_add_attention": False,
}
FLOW_VAE = VAE | {"shift_factor": 0.3, "use_quant_conv": False, "use_post_quant_conv": False}
CLIP = TEXT | {"max_position_embeddings": 5, "num_hidden_layers": 2}
LARGE_CLIP = CLIP | {"hidden_size": 24, "projection_dim": 20}
T5: dict[str, Any] = {
    "d_model": 48,
    "d_kv": 8,
    "d_ff": 16,
    "num_layers": 1,
    "num_heads": 2,
    "vocab_size": 20,
    "feed_forward_proj": "gated-gelu",
    "eos_token_id": 1,
    "pad_token_id": 0,
}
ARCHITECTURES: dict[str, dict[str, dict[str, Any]]] = {
    "stable_diffusion": ARCHITECTURE,
    "sdxl": {
        "unet": {
            "block_out_channels": [8, 16, 24],
            "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"],
            "up_block_types": ["CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"],
            "layers_per_block": 1,
            "transformer_layers_per_block": [1, 1, 2],
            "norm_num_groups": 4,
            "cross_attention_dim": 16 + 24,
            "attention_head_dim": [1, 2, 3],
            "use_linear_projection": True,
            "addition_embed_type": "text_time",
            "addition_time_embed_dim": 8,
            "projection_class_embeddings_input_dim": 6 * 8 + 20,
            "sample_size": 16,
        },
        "vae": VAE,
        "text_encoder": CLIP,
        "text_encoder_2": LARGE_CLIP,
        "scheduler": SCHEDULER,
    },
    "sd3": {
        "transformer": {
            "sample_size": 16,
            "in_channels": 4,
            "out_channels": 4,
            "num_layers": 3,
            "num_attention_heads": 4,
            "attention_head_dim": 8,
            "joint_attention_dim": 48,
            "caption_projection_dim": 32,
            "pooled_projection_dim": 16 + 20,
            "pos_embed_max_size": 12,
            "dual_attention_layers": [0],
            "qk_norm": "rms_norm",
        },
        "vae": FLOW_VAE,
        "text_encoder": CLIP | {"projection_dim": 16},
        "text_encoder_2": LARGE_CLIP,
        "text_encoder_3": T5,
        "scheduler": {"num_train_timesteps": 1000, "shift": 3.0},
    },
    "flux": {
        "transformer": {
            "in_channels": 16,
            "num_layers": 2,
            "num_single_layers": 2,
            "num_attention_heads": 2,
            "attention_head_dim": 16,
            "joint_attention_dim": 48,
            "pooled_projection_dim": 16,
            "guidance_embeds": False,
            "axes_dims_rope": [4, 6, 6],
        },
        "vae": FLOW_VAE,
        "text_encoder": CLIP,
        "text_encoder_2": T5,
        "scheduler": {"num_train_timesteps": 1000, "shift": 3.0, "use_dynamic_shifting": True},
    },
}
TEXT_SIZES = {"sdxl": (40, 20), "sd3": (48, 36), "flux": (48, 16)}  # channels of a text token, and of the pooled text
SIZES = {"stable_diffusion": 64, "sdxl": 32, "sd3": 32, "flux": 32}


def small_spec(spec: CacheSpec, folder: Path) -> CacheSpec:
    """A spec of cache_specs with a network of its class that is narrow, and as deep; its weights are random, and its
    text has three tokens, in a file in the folder."""
    about = spec.section(DiffusionSpec)
    small, family = dict(ARCHITECTURES[about.family]), FAMILIES[about.family]
    if family.is_flow:
        fields = ("num_layers", "num_single_layers", "guidance_embeds", "dual_attention_layers", "qk_norm")
        true = about.architecture["transformer"]
        small["transformer"] = small["transformer"] | {name: true[name] for name in fields if name in true}
    else:
        small["unet"] = small["unet"] | {"layers_per_block": about.architecture["unet"]["layers_per_block"]}
    text = {} if about.family == "stable_diffusion" else {"text": str(folder / "text.safetensors")}
    if text:
        folder.mkdir(parents=True, exist_ok=True)
        width, pooled = TEXT_SIZES[about.family]
        tensors = {"prompt_embeds": torch.ones(3, width), "pooled_prompt_embeds": torch.ones(pooled)}
        save_file(tensors, folder / "text.safetensors")
    changed = {
        "backbone": about.to_dict() | {"architecture": small} | text,
        "weights": "random",
        "image_size": SIZES[about.family],
        "autocast": None,
    }
    return CacheSpec.parse(spec.to_dict() | changed, "test")


def write_pipeline(folder: Path, family: str, seed: int = 0, architecture: Any = None) -> None:
    """Write the folder of a family other than stable_diffusion."""
    architecture = architecture or ARCHITECTURES[family]
    network = FAMILIES[family].network
    auto: Any = transformers
    made: dict[str, Any] = {}
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        made[network] = getattr(diffusers, FAMILIES[family].model)(**architecture[network])
        made["vae"] = diffusers.AutoencoderKL(**architecture["vae"])
        for part, kind in FAMILIES[family].encoders.items():
            config = auto.T5Config if kind == "T5EncoderModel" else auto.CLIPTextConfig
            made[part] = getattr(auto, kind)(config(**architecture[part]))
    for part, model in made.items():
        model.save_pretrained(folder / part)
        if FAMILIES[family].encoders.get(part) == "CLIPTextModel":
            edit_weights(folder / part, lambda state: {f"text_model.{k}": v for k, v in state.items()})
    kind = "EulerDiscreteScheduler" if family == "sdxl" else "FlowMatchEulerDiscreteScheduler"
    scheduler = architecture["scheduler"] | ({"timestep_spacing": "leading"} if family == "sdxl" else {})
    write_json(folder / "scheduler" / "scheduler_config.json", {"_class_name": kind} | scheduler)
    clip = [part for part, of in FAMILIES[family].encoders.items() if of.startswith("CLIP")]
    for i, part in enumerate(clip):
        write_tokenizer(folder / part.replace("text_encoder", "tokenizer"), pad="!" if i else "<|endoftext|>")
    write_json(folder / "model_index.json", {"_class_name": f"small {family}"})
