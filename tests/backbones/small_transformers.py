"""Small stand-ins for the specs of `family: transformers`: the true class, in the true file format of its publisher.

Each comes with a reference: what the class itself calls its hidden states, put row by row by code that is not bddn's.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers as t
from torch import Tensor
from transformers.vision_utils import get_vision_window_index

from backbones.sources import seeded
from bddn.spec import CacheSpec, TransformersSpec

Tower = Any
Maps = dict[str, Tensor]  # by layer: (B, C, H, W), of the layers of which the class tells

VIT: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "patch_size": 8,
    "image_size": 48,
}
VIT_BY_RATIO = {name: value for name, value in VIT.items() if name != "intermediate_size"} | {"mlp_ratio": 2.0}
STAGES: dict[str, Any] = {"hidden_sizes": [16, 24, 32, 40], "depths": [1, 1, 2, 1]}
OF_STAGES = [[1, 16, 4], [1, 24, 8], [2, 32, 16], [1, 40, 32]]
DOUBLING = [[1, 16, 4], [1, 32, 8], [2, 64, 16], [1, 128, 32]]
TEXT = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "vocab_size": 30}
QWEN = {"hidden_size": 32, "intermediate_size": 64, "num_heads": 2, "depth": 2, "patch_size": 4, "out_hidden_size": 16}
QWEN_TEXT = TEXT | {"num_key_value_heads": 2, "rope_parameters": {"rope_type": "default", "mrope_section": [2, 1, 1]}}


@dataclass(frozen=True)
class Tiny:
    """How a class is made small.

    Attributes
    ----------
    architecture : dict
        Its configuration.
    publish : function of a configuration
        Returns the model that its publisher saves, and the tower in it.
    image : int
        Pixels.
    section : dict
        Fields of the spec that go with the sizes.
    states : function of the tower, its arguments and the places of the first layer
        Returns hidden states (B, C, H, W) by layer.
    """

    architecture: dict[str, Any]
    publish: Callable[[Any], tuple[Any, Tower]]
    image: int = 48
    section: dict[str, Any] | None = None
    states: "Callable[[Tower, Tensor, TransformersSpec], Maps] | None" = None


@dataclass(frozen=True)
class Small:
    """A spec whose network is small, and whose tokens are stored at the places of its first layer, up to 8 × 8.

    Attributes
    ----------
    spec : CacheSpec
        As the one in cache_specs in all but sizes and the place of the weights.
    tower : network
        The network that was saved, as its publisher has it.
    states : function of pixels (B, 3, H, W)
        Returns hidden states (B, C, H, W) by layer.
    sequences : function of pixels (B, 3, H, W)
        Returns hidden states with their prefix tokens (B, T, C) by layer, of networks that have some.
    """

    spec: CacheSpec
    tower: Tower
    states: Callable[[Tensor], Maps]
    sequences: Callable[[Tensor], Maps]


def small_spec(spec: CacheSpec, folder: str = "-") -> CacheSpec:
    """A spec with a small architecture, and weights in a folder."""
    about = spec.section(TransformersSpec)
    tiny = TINY[about.model]
    fixed = {name: value for name, value in about.architecture.items() if isinstance(value, bool | str)}
    section = about.to_dict() | {"architecture": fixed | tiny.architecture} | (tiny.section or {})
    side = section["stages"][0][2] if section["stages"] else section["architecture"]["patch_size"]
    grid = [min(tiny.image // side, 8)] * 2
    changed = {"backbone": section, "weights": {"folder": folder}, "image_size": tiny.image, "grid": grid}
    return CacheSpec.parse(spec.to_dict() | changed, spec.title)


def distinct(specs: dict[str, CacheSpec]) -> dict[str, list[str]]:
    """Names of specs that differ in more than their sizes, each with those that are like it."""
    alike: dict[str, list[str]] = {}
    for name, spec in specs.items():
        small = small_spec(spec)
        key = json.dumps([small.identity(), small.to_dict()["backbone"]], sort_keys=True)
        alike.setdefault(key, []).append(name)
    return {names[0]: names for names in alike.values()}


def shrink(spec: CacheSpec, folder: Path) -> Small:
    """Write a small checkpoint for a spec."""
    small = small_spec(spec, str(folder))
    about = small.section(TransformersSpec)
    tiny = TINY[about.model]
    torch.manual_seed(0)
    whole, tower = tiny.publish(getattr(t, about.model).config_class(**about.architecture))
    seeded(whole, 3)
    whole.save_pretrained(folder)

    def sequences(pixels: Tensor) -> Maps:
        with torch.inference_mode():
            found = tower(pixels, output_hidden_states=True, **about.forward).hidden_states[1:]
        return {f"block_{i}": state for i, state in enumerate(found)}

    def states(pixels: Tensor) -> Maps:
        with torch.inference_mode():
            return (tiny.states or _row_by_row)(tower, pixels, about)

    return Small(small, tower, states, sequences)


def _row_by_row(tower: Tower, pixels: Tensor, about: TransformersSpec) -> Maps:
    """Sequences of a vision transformer, or maps of stages."""
    found = tower(pixels, output_hidden_states=True, **about.forward).hidden_states[1:]
    if found[0].ndim == 4:
        return _of_stages(found, about)
    n_leading = about.prefix.cls + about.prefix.registers
    side = round((found[0].shape[1] - n_leading) ** 0.5)
    return {
        f"block_{i}": state[:, n_leading:].transpose(1, 2).unflatten(2, (side, side)) for i, state in enumerate(found)
    }


def _of_stages(maps: Any, about: TransformersSpec) -> Maps:
    """The last block of each stage, whose output is that of the stage."""
    assert about.stages is not None
    return {f"stage_{i}.block_{n - 1}": one for i, (one, (n, _, _)) in enumerate(zip(maps, about.stages, strict=True))}


def _swin(tower: Tower, pixels: Tensor, about: TransformersSpec) -> Maps:
    """Before down-sampling, which comes after the last block of each stage but the last."""
    tokens, places = tower.embeddings(pixels)
    options = {"output_hidden_states": True, "output_hidden_states_before_downsampling": True}
    return _of_stages(tower.encoder(tokens, places, **options).reshaped_hidden_states[1:], about)


def _hiera(tower: Tower, pixels: Tensor, about: TransformersSpec) -> Maps:
    found = tower(pixels, output_hidden_states=True).reshaped_hidden_states[1:]
    return _of_stages([one.permute(0, 3, 1, 2) for one in found], about)


def _sam(tower: Tower, pixels: Tensor, about: TransformersSpec) -> Maps:
    found = tower(pixels, output_hidden_states=True).hidden_states[1:]
    return {f"block_{i}": one.permute(0, 3, 1, 2) for i, one in enumerate(found)}


def _video(tower: Tower, pixels: Tensor, about: TransformersSpec) -> Maps:
    return _row_by_row(tower, torch.stack([pixels, pixels], 1), about)


def _naflex(tower: Tower, pixels: Tensor, about: TransformersSpec) -> Maps:
    """The patches of each image cut by hand, as the image processor of transformers cuts them."""
    from transformers.models.siglip2.image_processing_pil_siglip2 import convert_image_to_patches

    patch = tower.config.patch_size
    h, w = (side // patch for side in pixels.shape[2:])
    patches = torch.stack([torch.from_numpy(convert_image_to_patches(one.numpy(), patch)) for one in pixels])
    shapes = torch.tensor([[h, w]] * len(pixels))
    found = tower(patches, torch.ones(patches.shape[:2]), shapes, output_hidden_states=True).hidden_states[1:]
    return {f"block_{i}": state.transpose(1, 2).unflatten(2, (h, w)) for i, state in enumerate(found)}


def _qwen(tower: Tower, pixels: Tensor, about: TransformersSpec) -> Maps:
    """Patches by the image processor of transformers; windows undone as the network undoes them at its end."""
    from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

    config, processor = tower.config, Qwen2VLImageProcessorPil()
    cut = [processor.patchify(one.numpy(), config.patch_size, 2, 2) for one in pixels]
    _, h, w = cut[0]
    thw = torch.tensor([[1, h, w]] * len(pixels))
    patches = torch.cat([torch.from_numpy(one.copy()) for one, _, _ in cut])
    found = tower(patches, thw, output_hidden_states=True).hidden_states[1:]
    maps = {}
    for i, state in enumerate(found):
        units = state.view(-1, 4, state.shape[-1])
        if hasattr(config, "window_size"):
            index = get_vision_window_index(thw, 2, config.window_size, config.patch_size)[0]
            units = units[torch.argsort(index)]
        merged = units.view(len(pixels), h // 2, w // 2, 2, 2, -1)
        maps[f"block_{i}"] = merged.permute(0, 5, 1, 3, 2, 4).reshape(len(pixels), -1, h, w)
    return maps


def _plain(model: type[Any], **options: Any) -> Callable[[Any], tuple[Any, Tower]]:
    def publish(config: Any) -> tuple[Any, Tower]:
        network = model(config, **options)
        return network, network

    return publish


def _inside(model: type[Any], tower: str) -> Callable[[Any], tuple[Any, Tower]]:
    """A classifier or another head around the network."""

    def publish(config: Any) -> tuple[Any, Tower]:
        whole = model(config)
        return whole, getattr(whole, tower)

    return publish


def _beside_text(model: type[Any], settings: type[Any], text: dict[str, Any]) -> Callable[[Any], tuple[Any, Tower]]:
    """With its text tower."""

    def publish(config: Any) -> tuple[Any, Tower]:
        whole = model(settings(text_config=text, vision_config=config.to_dict()))
        return whole, getattr(whole, "visual", None) or whole.vision_model

    return publish


def _sam2(config: Any) -> tuple[Any, Tower]:
    sizes = {"hidden_size": 16, "num_attention_heads": 2, "mlp_dim": 16, "iou_head_hidden_dim": 16}
    prompt = {"hidden_size": 16, "image_size": 64, "patch_size": 16}
    whole = t.Sam2Model(
        t.Sam2Config(vision_config=config.to_dict(), prompt_encoder_config=prompt, mask_decoder_config=sizes)
    )
    return whole, whole.vision_encoder


WINDOWS = {"stages": [[2, 32, 4]]}
TINY: dict[str, Tiny] = {
    "DINOv3ViTModel": Tiny(VIT | {"num_register_tokens": 4}, _plain(t.DINOv3ViTModel)),
    "DINOv3ConvNextModel": Tiny(STAGES, _plain(t.DINOv3ConvNextModel), 64, {"stages": OF_STAGES}),
    "ConvNextModel": Tiny(STAGES, _inside(t.ConvNextForImageClassification, "convnext"), 64, {"stages": OF_STAGES}),
    "ConvNextV2Model": Tiny(
        STAGES, _inside(t.ConvNextV2ForImageClassification, "convnextv2"), 64, {"stages": OF_STAGES}
    ),
    "ResNetModel": Tiny(
        STAGES | {"embedding_size": 8}, _inside(t.ResNetForImageClassification, "resnet"), 64, {"stages": OF_STAGES}
    ),
    "Swinv2Model": Tiny(
        {"image_size": 64, "embed_dim": 16, "depths": [1, 1, 2, 1], "num_heads": [1, 2, 2, 2], "window_size": 4},
        _inside(t.Swinv2ForImageClassification, "swinv2"),
        64,
        {"stages": DOUBLING},
        _swin,
    ),
    "SiglipVisionModel": Tiny(VIT, _beside_text(t.SiglipModel, t.SiglipConfig, TEXT | {"projection_size": 32})),
    "Siglip2VisionModel": Tiny(
        {name: value for name, value in VIT.items() if name != "image_size"} | {"num_patches": 16},
        _beside_text(t.Siglip2Model, t.Siglip2Config, TEXT | {"projection_size": 32}),
        states=_naflex,
    ),
    "CLIPVisionModel": Tiny(VIT, _beside_text(t.CLIPModel, t.CLIPConfig, TEXT)),
    "MetaClip2VisionModel": Tiny(VIT, _beside_text(t.MetaClip2Model, t.MetaClip2Config, TEXT | {"eos_token_id": 2})),
    "BeitModel": Tiny(VIT | {"use_mask_token": True}, _inside(t.BeitForMaskedImageModeling, "beit")),
    "Data2VecVisionModel": Tiny(VIT, _plain(t.Data2VecVisionModel)),
    "IJepaModel": Tiny(VIT, _plain(t.IJepaModel)),
    "VJEPA2Model": Tiny(
        {name: value for name, value in VIT_BY_RATIO.items() if name != "image_size"}
        | {"crop_size": 48, "pred_hidden_size": 24, "pred_num_attention_heads": 2, "pred_num_hidden_layers": 1},
        _plain(t.VJEPA2Model),
        states=_video,
    ),
    "Aimv2VisionModel": Tiny(VIT, _plain(t.Aimv2VisionModel)),
    "RadioModel": Tiny(
        VIT_BY_RATIO | {"max_img_size": 64, "num_cls_tokens": 3, "num_registers": 7}, _plain(t.RadioModel)
    ),
    "Sam2VisionModel": Tiny(
        {
            "backbone_config": {
                "model_type": "sam2_hiera_det_model",
                "image_size": [64, 64],
                "hidden_size": 16,
                "embed_dim_per_stage": [16, 32, 64, 128],
                "num_attention_heads_per_stage": [1, 2, 2, 2],
                "blocks_per_stage": [1, 1, 2, 1],
                "global_attention_blocks": [3],
                "window_size_per_stage": [4, 4, 2, 2],
                "window_positional_embedding_background_size": [4, 4],
            },
            "backbone_channel_list": [128, 64, 32, 16],
            "fpn_hidden_size": 16,
        },
        _sam2,
        64,
        {"stages": DOUBLING},
        _sam,
    ),
    "HieraModel": Tiny(
        {"image_size": [64, 64], "embed_dim": 16, "depths": [1, 1, 2, 1], "num_heads": [1, 2, 2, 2]},
        _plain(t.HieraModel, add_pooling_layer=False),
        64,
        {"stages": DOUBLING},
        _hiera,
    ),
    "DepthAnythingForDepthEstimation": Tiny(
        {
            "patch_size": 8,
            "backbone_config": VIT
            | {
                "model_type": "dinov2",
                "num_hidden_layers": 4,
                "out_indices": [1, 2, 3, 4],
                "reshape_hidden_states": False,
            },
            "reassemble_hidden_size": 32,
            "neck_hidden_sizes": [4, 8, 16, 32],
            "fusion_hidden_size": 8,
            "head_hidden_size": 4,
        },
        _plain(t.DepthAnythingForDepthEstimation),
        section={"stages": [[4, 32, 8]]},
    ),
    "Qwen2_5_VisionTransformerPretrainedModel": Tiny(
        QWEN | {"window_size": 16, "fullatt_block_indexes": [1]},
        _beside_text(t.Qwen2_5_VLModel, t.Qwen2_5_VLConfig, QWEN_TEXT),
        32,
        WINDOWS | {"order": [4, 2]},
        _qwen,
    ),
    "Qwen3VLVisionModel": Tiny(
        QWEN | {"deepstack_visual_indexes": [0], "num_position_embeddings": 16},
        _beside_text(t.Qwen3VLModel, t.Qwen3VLConfig, QWEN_TEXT | {"head_dim": 8}),
        32,
        WINDOWS,
        _qwen,
    ),
}
