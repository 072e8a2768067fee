"""Networks that are a part of what a folder of weights contains: other parts and heads are not their blocks."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers as t

from backbones.contract import scenes
from backbones.small_transformers import TEXT, VIT
from backbones.sources import seeded
from bddn.backbones.registry import open_backbone
from bddn.backbones.transformers_network import TransformersNetwork, find_blocks
from bddn.errors import BackboneError
from bddn.spec import CacheSpec

WITHOUT_POOLING = {"options": {"add_pooling_layer": False}}
POOL: dict[str, Any] = {"num_encoder_blocks": 2, "depths": [1, 2], "hidden_sizes": [16, 24], "mlp_ratios": [2, 2]}
POOL |= {"patch_sizes": [7, 3], "strides": [4, 2], "padding": [2, 1]}


def blip2() -> Any:
    of_queries = TEXT | {"encoder_hidden_size": VIT["hidden_size"]}
    text = t.OPTConfig(
        vocab_size=30, hidden_size=16, word_embed_proj_dim=16, num_hidden_layers=1, num_attention_heads=2
    )
    return t.Blip2Model(t.Blip2Config(vision_config=VIT, qformer_config=of_queries, text_config=text.to_dict()))


MODELS: dict[str, tuple[Callable[[], Any], str, str, dict[str, Any]]] = {
    "BLIP-2": (blip2, "Blip2VisionModel", "encoder.layers.*", {"tower": "vision_model"}),
    "GIT": (
        lambda: t.GitForCausalLM(t.GitConfig(vision_config=VIT, **TEXT)),
        "GitVisionModel",
        "vision_model.encoder.layers.*",
        {"tower": "git.image_encoder"},
    ),
    "FLAVA": (
        lambda: t.FlavaModel(t.FlavaConfig(image_config=VIT, text_config=TEXT, multimodal_config=TEXT)),
        "FlavaImageModel",
        "encoder.layer.*",
        {"tower": "image_model"},
    ),
    "YOLOS": (
        lambda: t.YolosForObjectDetection(t.YolosConfig(**VIT | {"image_size": [48, 48], "num_detection_tokens": 2})),
        "YolosModel",
        "encoder.layer.*",
        WITHOUT_POOLING | {"suffix": {"registers": 2}},
    ),
    "DPT": (
        lambda: t.DPTForDepthEstimation(
            t.DPTConfig(**VIT, backbone_out_indices=[0, 0, 1, 1], neck_hidden_sizes=[8] * 4, fusion_hidden_size=8)
        ),
        "DPTModel",
        "encoder.layer.*",
        WITHOUT_POOLING,
    ),
    "PoolFormer": (
        lambda: t.PoolFormerForImageClassification(t.PoolFormerConfig(**POOL)),
        "PoolFormerModel",
        "encoder.block.*.*",
        {"prefix": {}},
    ),
}
"""The model that is saved; class, path of the blocks, and other fields of the network in it."""


@pytest.mark.parametrize("name", MODELS)
def test_other_parts_and_heads_are_not_taken_for_blocks_but_blocks_without_config_are_refused(
    name: str, tmp_path: Path
) -> None:
    make, model, blocks, section = MODELS[name]
    whole = make().eval()
    seeded(whole, 3)
    whole.save_pretrained(tmp_path)
    about = {"family": "transformers", "model": model, "blocks": blocks, "prefix": {"cls": 1}} | section
    given = {"title": name, "backbone": about, "weights": {"folder": str(tmp_path)}, "image_size": 48}
    spec = CacheSpec.parse(given | {"global_token": "cls" if about["prefix"] else "mean", "grid": [6, 6]}, "test")
    network = open_backbone(spec)
    assert isinstance(network, TransformersNetwork)
    part = next(one for one in whole.modules() if type(one).__name__ == model)
    seen: list[Any] = []
    for block in find_blocks(part, blocks).values():
        block.register_forward_hook(lambda _module, _inputs, output: seen.append(output))
    with torch.inference_mode():
        part(scenes(network, 2))
    layers = network.each_layer(scenes(network, 2), lambda tokens: tokens.local_.flatten(2))
    for stored, output in zip(layers.values(), seen, strict=True):
        state = output[0] if isinstance(output, tuple) else output
        places = state.flatten(2) if state.ndim == 4 else state[:, 1:37].transpose(1, 2)
        assert torch.allclose(stored, places, atol=1e-5)

    config = json.loads((tmp_path / "config.json").read_text())
    sizes = next((config[key] for key in ("vision_config", "image_config") if key in config), config)
    sizes |= {"depths": [1, 1]} if name == "PoolFormer" else {"num_hidden_layers": 1, "backbone_out_indices": [0] * 4}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(BackboneError, match=r"of blocks that config\.json does not contain: .*\.1\."):
        open_backbone(spec)
