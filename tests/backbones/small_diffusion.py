"""A small Stable Diffusion: all parts of a pipeline folder, as they lie on a disk, with seeded random weights."""

import json
from pathlib import Path
from typing import Any

import diffusers
import torch
import transformers
from safetensors.torch import load_file, save_file
from transformers import CLIPTextConfig

UNET: dict[str, Any] = {
    "block_out_channels": [8, 16, 24, 32],
    "down_block_types": ["CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"],
    "up_block_types": ["UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"],
    "layers_per_block": 2,
    "norm_num_groups": 4,
    "cross_attention_dim": 16,
    "attention_head_dim": 4,
    "sample_size": 8,
}
VAE: dict[str, Any] = {
    "block_out_channels": [8, 8, 16, 16],
    "down_block_types": ["DownEncoderBlock2D"] * 4,
    "up_block_types": ["UpDecoderBlock2D"] * 4,
    "layers_per_block": 1,
    "norm_num_groups": 4,
    "latent_channels": 4,
    "scaling_factor": 4.0,  # of these random weights: latents of a deviation near 1
    "sample_size": 64,
}
TEXT: dict[str, Any] = {
    "vocab_size": 20,
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "bos_token_id": 0,  # as in the files of Stable Diffusion 1.x, whose tokenizer knows better
    "eos_token_id": 2,
}
SCHEDULER: dict[str, Any] = {
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "num_train_timesteps": 1000,
    "steps_offset": 1,
    "set_alpha_to_one": False,
    "clip_sample": False,
    "trained_betas": None,
}
ARCHITECTURE = {"unet": UNET, "vae": VAE, "text_encoder": TEXT, "scheduler": SCHEDULER}
VERSION_2: dict[str, Any] = {
    "unet": {"use_linear_projection": True, "attention_head_dim": [2, 4, 4, 8]},
    "scheduler": {"prediction_type": "v_prediction"},
}


def write_small_diffusion(folder: Path, seed: int = 0, version: int = 1) -> None:
    """Write the folder as version 1 or 2 of Stable Diffusion has it.

    Keys of version 1 are those of its time: a prefix and position ids of the text encoder, old names of the
    autoencoder's attention.
    """
    changed: dict[str, Any] = VERSION_2 if version == 2 else {}
    models: dict[str, Any] = {}
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        models["unet"] = diffusers.UNet2DConditionModel(**UNET | changed.get("unet", {}))
        models["vae"] = diffusers.AutoencoderKL(**VAE)
        models["text_encoder"] = transformers.CLIPTextModel(CLIPTextConfig(**TEXT))
    for name, model in models.items():
        _peak_kernels(model)
        model.save_pretrained(folder / name)
    edit_weights(folder / "text_encoder", lambda state: {f"text_model.{k}": v for k, v in state.items()})
    if version == 1:
        positions = {"text_model.embeddings.position_ids": torch.arange(77)[None]}
        edit_weights(folder / "text_encoder", lambda state: state | positions)
        edit_weights(folder / "vae", lambda state: {_old_name(k): v for k, v in state.items()})
    kind = "PNDMScheduler" if version == 1 else "DDIMScheduler"
    scheduler = SCHEDULER | changed.get("scheduler", {}) | ({"skip_prk_steps": True} if version == 1 else {})
    write_json(folder / "scheduler" / "scheduler_config.json", {"_class_name": kind} | scheduler)
    write_tokenizer(folder / "tokenizer", pad="<|endoftext|>" if version == 1 else "!")
    library = {"unet": "diffusers", "vae": "diffusers", "scheduler": "diffusers"}
    kinds = {name: type(model).__name__ for name, model in models.items()}
    parts = kinds | {"tokenizer": "CLIPTokenizer", "scheduler": kind}
    index = {name: [library.get(name, "transformers"), of] for name, of in parts.items()}
    write_json(folder / "model_index.json", {"_class_name": "StableDiffusionPipeline"} | index)


def write_tokenizer(folder: Path, pad: str) -> None:
    """A tokenizer of 20 ids: 18 letters, the first of them '!', and the begin and end of a text."""
    ids = [*"!abcdefghijklmnopq", "<|startoftext|>", "<|endoftext|>"]
    write_json(folder / "vocab.json", {token: i for i, token in enumerate(ids)})
    (folder / "merges.txt").write_text("#version: 0.2\n")
    special = {"bos_token": ids[-2], "eos_token": ids[-1], "unk_token": ids[-1], "pad_token": pad}
    write_json(folder / "special_tokens_map.json", special)
    own = {"tokenizer_class": "CLIPTokenizer", "model_max_length": 77, "do_lower_case": True}
    write_json(folder / "tokenizer_config.json", own | special)


def write_json(path: Path, value: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, indent=2))


def edit_weights(folder: Path, change: Any) -> None:
    """Write the weights of a part anew, changed by a function of the state dict."""
    (path,) = folder.glob("*.safetensors")
    save_file(change(load_file(path)), path, {"format": "pt"})


def _peak_kernels(model: torch.nn.Module) -> None:
    """Weigh the middle of each kernel more, so that what is in a place of the image stays in that place."""
    for weight in model.parameters():
        if weight.ndim == 4 and weight.shape[-1] == 3:
            peak = torch.full((3, 3), 0.1)
            peak[1, 1] = 3.0
            weight.data.mul_(peak)


def _old_name(key: str) -> str:
    if ".attentions." not in key:
        return key
    for new, old in (("to_q", "query"), ("to_k", "key"), ("to_v", "value"), ("to_out.0", "proj_attn")):
        key = key.replace(f".{new}.", f".{old}.")
    return key
