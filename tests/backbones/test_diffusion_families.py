"""SDXL, Stable Diffusion 3 and FLUX.1: what their networks are given is what the pipelines of diffusers give them, and
what is stored is the stream of the image at its places.
"""

import json
import shutil
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import diffusers
import pytest
import torch
import torch.nn.functional as F
import transformers
from safetensors.torch import load_file, save_file
from torch import Tensor

from backbones.small_pipelines import ARCHITECTURES, SIZES, write_pipeline
from bddn.backbones.diffusion.families import FAMILIES
from bddn.backbones.diffusion.network import DiffusionNetwork
from bddn.backbones.diffusion.prompt import write_text
from bddn.backbones.kind import kind_of
from bddn.backbones.registry import open_backbone
from bddn.backbones.untrained import untrained_spec
from bddn.errors import BackboneError, SpecError
from bddn.extraction.source import network_identity
from bddn.identity import Identity
from bddn.spec import CacheSpec, DiffusionSpec
from bddn.testing.contract_of_backbones import difference, rows
from bddn.tokens import Tokens

NEW = ("sdxl", "sd3", "flux")
N_STEPS = 4
SIDE = SIZES["flux"]
BLOCKS = {
    "sdxl": ["down_1.attention_0", "mid.resnet_1", "up_2.resnet_1"],
    "sd3": ["block_0", "block_2"],
    "flux": ["double_1", "single_0", "single_1"],
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A folder of each family; read only."""
    root = tmp_path_factory.mktemp("pipelines")
    for family in NEW:
        write_pipeline(root / family, family)
    return {family: root / family for family in NEW}


@pytest.fixture(scope="module")
def pixels() -> Tensor:
    return torch.rand((2, 3, SIDE, SIDE), generator=torch.Generator().manual_seed(0)) * 2 - 1


def spec_of(family: str, weights: Path | Mapping[str, Any], **fields: Any) -> CacheSpec:
    backbone = {"family": family, "n_steps": N_STEPS}
    own = {name: fields.pop(name) for name in DiffusionSpec.model_fields.keys() & fields.keys()}
    given = {
        "title": "small",
        "backbone": backbone | own,
        "weights": {"folder": str(weights)} if isinstance(weights, Path) else weights,
        "image_size": SIDE,
        "preprocess": "native",
        "global_token": "mean",
    }
    return CacheSpec.parse(given | fields, "test")


def opened(family: str, weights: Path | Mapping[str, Any], **fields: Any) -> DiffusionNetwork:
    network = open_backbone(spec_of(family, weights, **fields))
    assert isinstance(network, DiffusionNetwork)
    return network


@pytest.fixture(scope="module")
def networks(folders: dict[str, Path]) -> dict[str, DiffusionNetwork]:
    """All layers, inverted; read only."""
    return {family: opened(family, folders[family]) for family in NEW}


# by the pipelines of diffusers


class EmptyPromptOfT5:
    """A tokenizer that knows the empty prompt only: an end, and padding."""

    def tokenize(self, prompt: object) -> list[str]:
        return []

    def __call__(self, prompt: object, max_length: int = 1, **_: object) -> SimpleNamespace:
        return SimpleNamespace(input_ids=torch.tensor([[1] + [0] * (max_length - 1)]))


def pipeline_of(folder: Path, family: str, without_t5: bool = False) -> Any:
    """The pipeline of diffusers with the parts of a folder."""
    parts: dict[str, Any] = {}
    for part, kind in FAMILIES[family].encoders.items():
        is_t5 = kind == "T5EncoderModel"
        name = part.replace("text_encoder", "tokenizer")
        of_clip: Any = transformers.CLIPTokenizer
        parts[part] = None if is_t5 and without_t5 else getattr(transformers, kind).from_pretrained(folder / part)
        parts[name] = EmptyPromptOfT5() if is_t5 else of_clip.from_pretrained(folder / name, model_max_length=5)
    which = FAMILIES[family]
    for part in (which.network, "vae"):
        parts[part] = getattr(diffusers, which.class_of(part)).from_pretrained(folder / part, low_cpu_mem_usage=False)
    config = json.loads((folder / "scheduler" / "scheduler_config.json").read_text())
    parts["scheduler"] = getattr(diffusers, config["_class_name"]).from_config(config)
    kinds = {"sdxl": "StableDiffusionXLPipeline", "sd3": "StableDiffusion3Pipeline", "flux": "FluxPipeline"}
    return getattr(diffusers, kinds[family])(**parts)


class ByHand:
    """The maps of BLOCKS at each step, by a loop over the parts of a pipeline of diffusers, and by formulas.

    The network is given what the pipeline's own functions make of the empty prompt, the size, and the latent.
    """

    def __init__(self, folder: Path, family: str, without_t5: bool = False) -> None:
        self.pipe, self.family = pipeline_of(folder, family, without_t5), family
        self.network = self.pipe.unet if family == "sdxl" else self.pipe.transformer
        self.maps: dict[str, list[Tensor]] = {name: [] for name in BLOCKS[family]}
        for name, module in self._modules().items():
            module.register_forward_hook(lambda module, given, out, name=name: self.maps[name].append(self._map(out)))

    def _modules(self) -> dict[str, Any]:
        if self.family == "sdxl":
            unet = self.network
            found = [unet.down_blocks[1].attentions[0], unet.mid_block.resnets[1], unet.up_blocks[2].resnets[1]]
        elif self.family == "sd3":
            found = [self.network.transformer_blocks[0], self.network.transformer_blocks[2]]
        else:
            found = [self.network.transformer_blocks[1], *self.network.single_transformer_blocks]
        return dict(zip(BLOCKS[self.family], found, strict=True))

    def _map(self, out: Any) -> Tensor:
        if self.family == "sdxl":
            return out if torch.is_tensor(out) else out[0]
        text, image = out
        assert text is None or text.shape[1] != image.shape[1]
        return image.transpose(1, 2).reshape(len(image), -1, 8, 8)  # type: ignore[no-any-return]

    def predict(self, z: Tensor, level: float) -> Tensor:
        n, pipe, quiet = len(z), self.pipe, {"device": "cpu"}
        if self.family == "sdxl":
            embeds, _, pooled, _ = pipe.encode_prompt("", do_classifier_free_guidance=False, **quiet)
            sizes = pipe._get_add_time_ids((SIDE, SIDE), (0, 0), (SIDE, SIDE), torch.float32, 20)
            added = {"text_embeds": pooled.repeat(n, 1), "time_ids": sizes.repeat(n, 1)}
            out = self.network(z, torch.tensor(level), embeds.repeat(n, 1, 1), added_cond_kwargs=added)[0]
        elif self.family == "sd3":
            embeds, _, pooled, _ = pipe.encode_prompt("", "", "", do_classifier_free_guidance=False, **quiet)
            time = torch.full((n,), 1000 * level)
            out = self.network(z, embeds.repeat(n, 1, 1), pooled.repeat(n, 1), time, return_dict=False)[0]
        else:
            n_text = 512 if self.network.config.guidance_embeds else 256
            embeds, pooled, text_ids = pipe.encode_prompt("", None, max_sequence_length=n_text, **quiet)
            ids = pipe._prepare_latent_image_ids(n, 8, 8, "cpu", torch.float32)
            guidance = torch.ones(n) if self.network.config.guidance_embeds else None
            out = self.network(
                pipe._pack_latents(z, n, 4, 16, 16),
                embeds.repeat(n, 1, 1),
                pooled.repeat(n, 1),
                torch.full((n,), level),
                ids,
                text_ids,
                guidance,
                return_dict=False,
            )[0]
            out = pipe._unpack_latents(out, SIDE, SIDE, 2)
        return out  # type: ignore[no-any-return]

    @torch.no_grad()
    def run(self, pixels: Tensor, noise: Tensor | None = None) -> dict[str, list[Tensor]]:
        vae = self.pipe.vae.config
        z0 = (self.pipe.vae.encode(pixels).latent_dist.mean - (vae.shift_factor or 0)) * vae.scaling_factor
        if self.family == "sdxl":
            betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2
            alphas, z = torch.cumprod(1 - betas, 0).tolist(), z0
            for t in range(1, 1000, 1000 // N_STEPS):
                here, there = alphas[max(t - 1000 // N_STEPS, 0)], alphas[t]
                if noise is not None:
                    z = there**0.5 * z0 + (1 - there) ** 0.5 * noise
                out = self.predict(z, t)
                z = there**0.5 * (z - (1 - here) ** 0.5 * out) / here**0.5 + (1 - there) ** 0.5 * out
            return self.maps
        levels, z = flow_levels(self.family), z0
        for low, high in pairwise(levels):
            if noise is not None:
                z = (1 - low) * z0 + low * noise
            z = z + (high - low) * self.predict(z, low)
        return self.maps


def flow_levels(family: str) -> list[float]:
    """From 0 to 1, by the formulas of both papers: a constant shift of 3, or one that depends on the 64 tokens."""
    even = [k / N_STEPS for k in range(N_STEPS + 1)]
    if family == "sd3":
        return [3 * u / (1 + 2 * u) for u in even]
    mu = 0.5 + (64 - 256) / (4096 - 256) * (1.15 - 0.5)
    shift = float(torch.tensor(mu).exp())
    return [0.0] + [shift / (shift + 1 / u - 1) for u in even[1:]]


def assert_same(found: Tokens, maps: Mapping[str, list[Tensor]]) -> None:
    assert len(found) == sum(map(len, maps.values()))
    for block, steps in maps.items():
        for k, expected in enumerate(steps, 1):
            tokens = found[f"{block}@t{k}"]
            resized = F.interpolate(expected, (8, 8), mode="bilinear")
            torch.testing.assert_close(tokens.local_, resized, rtol=0, atol=2e-4)
            torch.testing.assert_close(tokens.global_, expected.mean((2, 3)), rtol=0, atol=2e-4)
        assert (steps[0] - steps[-1]).abs().max() > 0.01  # steps differ


@pytest.mark.parametrize("family", NEW)
@pytest.mark.parametrize("latents", ["inverted", "noised"])
def test_tokens_are_those_of_the_parts_of_the_pipeline_of_diffusers(
    folders: dict[str, Path], pixels: Tensor, family: str, latents: str
) -> None:
    layers = [f"{block}@t*" for block in BLOCKS[family]]
    noise = torch.randn((1, 4, 16, 16), generator=torch.Generator().manual_seed(7)) if latents == "noised" else None
    seed = {"noise_seed": 7} if latents == "noised" else {}
    found = opened(family, folders[family], layers=layers, latents=latents, **seed)(pixels)
    assert_same(found, ByHand(folders[family], family).run(pixels, noise))


def test_a_network_distilled_with_guidance_is_told_one_and_gets_512_text_tokens(tmp_path: Path, pixels: Tensor) -> None:
    dev = ARCHITECTURES["flux"] | {"transformer": ARCHITECTURES["flux"]["transformer"] | {"guidance_embeds": True}}
    write_pipeline(tmp_path / "dev", "flux", architecture=dev)
    layers = [f"{block}@t*" for block in BLOCKS["flux"]]
    network = opened("flux", tmp_path / "dev", layers=layers)
    assert_same(network(pixels), ByHand(tmp_path / "dev", "flux").run(pixels))
    assert len(network.identity["prompt"]["text_encoder_2"]) == 512


# text


@pytest.mark.parametrize(
    ("family", "block", "later"), [("sd3", "block_1", "block_2"), ("flux", "double_1", "single_0")]
)
def test_text_tokens_never_enter(
    folders: dict[str, Path], pixels: Tensor, tmp_path: Path, family: str, block: str, later: str
) -> None:
    """There are as many text tokens as places, so shapes do not tell them apart."""
    embeds = torch.randn((64, 48), generator=torch.Generator().manual_seed(1))
    save_file(
        {"prompt_embeds": embeds, "pooled_prompt_embeds": torch.randn(36 if family == "sd3" else 16)},
        tmp_path / "64.safetensors",
    )
    network = opened(
        family, folders[family], layers=[f"{block}@t1", f"{later}@t1"], text=str(tmp_path / "64.safetensors")
    )
    before = network(pixels)
    outputs: list[tuple[Tensor, Tensor]] = []

    def plant(module: Any, given: Any, out: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        outputs.append(out)
        return out[0] + 100 * torch.randn(out[0].shape, generator=torch.Generator().manual_seed(2)), out[1]

    network._denoiser.blocks[block].register_forward_hook(plant, prepend=True)
    after = network(pixels)
    text, image = outputs[0]
    assert text.shape == image.shape == (2, 64, 32)
    assert torch.equal(after[f"{block}@t1"].local_, before[f"{block}@t1"].local_)
    assert torch.equal(before[f"{block}@t1"].local_, image.transpose(1, 2).unflatten(2, (8, 8)))
    assert (before[f"{block}@t1"].local_ - text.transpose(1, 2).unflatten(2, (8, 8))).abs().max() > 0.1
    assert difference(after, before) > 0.01  # what was planted reaches later blocks through their attention alone


@pytest.mark.parametrize("family", ["sdxl", "flux"])
def test_a_file_of_embeddings_replaces_the_text_encoders(
    folders: dict[str, Path], networks: dict[str, DiffusionNetwork], pixels: Tensor, tmp_path: Path, family: str
) -> None:
    encoded, path = networks[family], tmp_path / "text.safetensors"
    write_text(spec_of(family, folders[family]), path)
    bare = tmp_path / "bare"
    for part in (FAMILIES[family].network, "vae", "scheduler"):
        shutil.copytree(folders[family] / part, bare / part)
    with pytest.raises(BackboneError, match="without text_encoder, text_encoder_2"):
        opened(family, bare)
    other = opened(family, bare, text=str(path))
    assert difference(other(pixels), encoded(pixels)) == 0
    assert other.identity["text"] != encoded.identity["text"] == "encoded"
    tensors = load_file(path)
    save_file(tensors | {"prompt_embeds": tensors["prompt_embeds"] + 0.1}, path)
    changed = opened(family, bare, text=str(path))
    assert changed.identity["text"] != other.identity["text"]
    assert difference(changed(pixels), other(pixels)) > 1e-4
    assert opened(family, bare, text="zeros").identity["text"] == "zeros"


def test_stable_diffusion_3_does_without_t5_as_its_pipeline_does(
    folders: dict[str, Path], pixels: Tensor, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(folders["sd3"], tmp_path / "sd3"))
    shutil.rmtree(folder / "text_encoder_3")
    layers = [f"{block}@t*" for block in BLOCKS["sd3"]]
    network = opened("sd3", folder, layers=layers, text="without_t5")
    assert_same(network(pixels), ByHand(folder, "sd3", without_t5=True).run(pixels))
    assert difference(network(pixels), opened("sd3", folders["sd3"], layers=layers)(pixels)) > 1e-4


@pytest.mark.parametrize(
    ("tensors", "named"),
    [
        ({"prompt": torch.zeros(3, 48)}, "tensors prompt"),
        ({"prompt_embeds": torch.zeros(2, 3, 48)}, r"prompt_embeds of shape \(2, 3, 48\)"),
        (
            {"prompt_embeds": torch.zeros(3, 40), "pooled_prompt_embeds": torch.zeros(16)},
            "joint_attention_dim 48, not 40",
        ),
        ({"prompt_embeds": torch.zeros(3, 48)}, "channels of the pooled text 16, not None"),
        (None, "no such file"),
    ],
)
def test_a_file_of_other_embeddings_is_refused(
    folders: dict[str, Path], tmp_path: Path, tensors: dict[str, Tensor] | None, named: str
) -> None:
    path = tmp_path / "text.safetensors"
    if tensors is not None:
        save_file(tensors, path)
    with pytest.raises(BackboneError, match=named if tensors is not None else "text.safetensors"):
        opened("flux", folders["flux"], text=str(path))


# noise


@pytest.mark.parametrize("family", [*NEW, "stable_diffusion"])
def test_noised_latents_are_those_of_their_seed_and_only_wanted_levels_run(pixels: Tensor, family: str) -> None:
    image = F.interpolate(pixels, (SIZES[family],) * 2)
    about = {"architecture": ARCHITECTURES[family], "image_size": SIZES[family], "latents": "noised"}
    first = "down_0.resnet_0" if FAMILIES[family].network == "unet" else "block_0" if family == "sd3" else "double_0"
    layers = [f"{first}@t2", f"{first}@t4"]
    one, same, other = (opened(family, {"random": 0}, layers=layers, noise_seed=seed, **about) for seed in (1, 1, 2))
    calls: list[int] = []
    one._denoiser.network.register_forward_pre_hook(lambda *_: calls.append(1))
    tokens = one(image)
    assert len(calls) == 2
    assert difference(tokens, same(image)) == 0
    assert difference(tokens, other(image)) > 0.01
    assert difference(one(image[[1]]), rows(tokens, [1])) <= 1e-4  # the noise does not depend on the batch
    assert (one.identity["latents"], one.identity["noise_seed"]) == ("noised", 1)
    assert one.identity != other.identity
    assert one.identity["weights_sha256"] == other.identity["weights_sha256"]


def test_the_identity_tells_the_level_of_each_step(
    folders: dict[str, Path], networks: dict[str, DiffusionNetwork]
) -> None:
    for family in ("sd3", "flux"):
        told = networks[family].identity["steps"]
        assert [one["sigma"] for one in told] == pytest.approx(flow_levels(family)[:-1], abs=2e-6)
    alphas = torch.cumprod(1 - torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2, 0)
    noised = opened("sdxl", folders["sdxl"], latents="noised").identity["steps"]
    inverted = networks["sdxl"].identity["steps"]
    assert [one["alpha_bar"] for one in noised] == pytest.approx(alphas[[1, 251, 501, 751]].tolist(), abs=2e-6)
    assert [one["alpha_bar"] for one in inverted] == pytest.approx(alphas[[0, 1, 251, 501]].tolist(), abs=2e-6)


def test_sampling_leads_back_to_the_image_the_nearer_the_more_steps(folders: dict[str, Path], pixels: Tensor) -> None:
    errors = []
    for n_steps in (4, 16):
        network = opened("flux", folders["flux"], n_steps=n_steps, layers=[f"single_1@t{n_steps}"])
        seen: list[Tensor] = []
        denoise = network._denoiser
        network._denoiser = lambda z, t, seen=seen, denoise=denoise: (seen.append(z), denoise(z, t))[1]  # type: ignore[assignment]
        network._denoiser.tokens = denoise.tokens  # type: ignore[method-assign]
        network(pixels)
        levels, z = [t / 1000 for t in network._levels.timesteps], seen[-1]
        with torch.inference_mode():
            for low, high in list(pairwise(levels))[::-1]:
                z = z + (low - high) * denoise(z, 1000 * high)
        assert (seen[-1] - seen[0]).norm() > 0.1 * seen[0].norm()  # it went somewhere
        errors.append(float((z - seen[0]).norm() / seen[0].norm()))
    assert errors[1] < 0.4 * errors[0]


# the contract of a backbone, and what it says of itself


@pytest.mark.parametrize("family", NEW)
def test_the_outline_and_the_twin_are_those_of_the_network(
    folders: dict[str, Path], pixels: Tensor, family: str
) -> None:
    spec = spec_of(family, folders[family], architecture=ARCHITECTURES[family], latents="noised", noise_seed=3)
    network = open_backbone(spec)
    tokens = network(pixels)
    assert isinstance(network, DiffusionNetwork)
    sizes = network.each_layer(pixels, lambda layer: tuple(layer.local_.shape[1:]))
    told = kind_of(spec).outline(spec)
    assert list(told) == list(tokens) == list(network.layers)
    assert {name: (layer.channels, *layer.places) for name, layer in told.items()} == {
        name: sizes[name.partition("@")[0]] for name in told
    }
    assert difference(network(pixels.flip(0)), rows(tokens, [1, 0])) <= 1e-4
    assert network.identity == json.loads(json.dumps(network.identity))
    header = dict(network_identity(spec, network, "cpu").parts)
    twin = untrained_spec(header, network.layers, seed=5)
    other = network_identity(twin, open_backbone(twin), "cpu")
    words = Identity(header).only("spec", "backbone").differences(other.only("spec", "backbone"))
    assert [word.partition(" ")[0] for word in words if "prompt" not in word] == ["backbone.weights_sha256"]
    assert kind_of(spec).may_match(spec, list(told), network.identity)
    elsewhere = spec_of(family, folders[family], architecture=ARCHITECTURES[family], latents="noised", noise_seed=4)
    assert not kind_of(spec).may_match(elsewhere, list(told), network.identity)


@pytest.mark.parametrize("family", ["sd3", "flux"])
def test_a_transformer_is_held_in_the_precision_of_its_forward_pass(
    folders: dict[str, Path], networks: dict[str, DiffusionNetwork], pixels: Tensor, family: str
) -> None:
    half = opened(family, folders[family], autocast="bfloat16")
    assert {weight.dtype for weight in half._denoiser.network.parameters()} == {torch.bfloat16}
    far = difference(half(pixels), networks[family](pixels))
    assert 1e-4 < far < 0.3


# what is refused


@pytest.mark.parametrize(
    ("family", "fields", "named"),
    [
        ("flux", {"image_size": 34}, "multiple of 4"),
        ("sd3", {"image_size": 52}, "image_size up to 48, because the network knows 12 × 12 places"),
        ("sdxl", {"image_size": 36}, "multiple of 8"),
        (
            "flux",
            {"architecture": {"unet": {}}},
            "some of transformer, vae, text_encoder, text_encoder_2 and scheduler",
        ),
        ("sd3", {"noise_seed": 3}, "'noise_seed' only beside 'latents: noised'"),
        ("flux", {"text": "without_t5"}, "only for the family sd3"),
        ("flux", {"text": "none"}, "text"),
        ("flux", {"architecture": {"transformer": {"num_layers": "many"}}}, "num_layers 'many'"),
    ],
)
def test_a_spec_that_a_pipeline_cannot_follow_is_refused(
    folders: dict[str, Path], family: str, fields: dict[str, Any], named: str
) -> None:
    def follow() -> None:
        spec = spec_of(family, folders[family], **fields)
        kind_of(spec).outline(spec)
        open_backbone(spec)

    with pytest.raises(SpecError, match=named):
        follow()


@pytest.mark.parametrize(("family", "other"), [("sdxl", "flux"), ("flux", "sd3"), ("sd3", "flux")])
def test_the_folder_of_another_family_is_refused(folders: dict[str, Path], family: str, other: str) -> None:
    with pytest.raises(BackboneError):
        opened(family, folders[other])


@pytest.mark.parametrize(
    ("part", "change", "named"),
    [
        ("unet", {"addition_time_embed_dim": 4}, "channels of the pooled text 44, not 20"),
        ("vae", {"latents_mean": [0.0] * 4}, "latents_mean of the vae"),
        ("text_encoder_2", {"hidden_size": 32}, "cross_attention_dim 40, not 48"),
    ],
)
def test_parts_that_do_not_fit_together_are_refused(part: str, change: dict[str, Any], named: str) -> None:
    parts = ARCHITECTURES["sdxl"] | {part: ARCHITECTURES["sdxl"][part] | change}
    with pytest.raises(BackboneError, match=named):
        opened("sdxl", {"random": 0}, architecture=parts)


def test_a_fetch_takes_only_what_the_text_of_the_spec_needs() -> None:
    weights = "diffusion_pytorch_model.safetensors"
    needed = [
        "scheduler/scheduler_config.json",
        *(f"{part}/{name}" for part in ("transformer", "vae") for name in ("config.json", weights)),
    ]
    clip = [
        *(f"text_encoder{i}/{name}" for i in ("", "_2") for name in ("config.json", "model.safetensors")),
        *(f"tokenizer{i}/vocab.json" for i in ("", "_2")),
    ]
    t5 = ["text_encoder_3/config.json", "text_encoder_3/model.safetensors"]
    beside = ["tokenizer_3/spiece.model", "sd3_medium.safetensors", "text_encoder/model.fp16.safetensors"]
    for text, wanted in {"encoded": [*clip, *t5], "without_t5": clip, "zeros": [], "a.safetensors": []}.items():
        spec = spec_of("sd3", {"hub": "a/b"}, text=text)
        files, lacks = kind_of(spec).files(spec, [*needed, *clip, *t5, *beside])
        assert (sorted(files), lacks) == (sorted([*needed, *wanted]), "")
    spec = spec_of("sd3", {"hub": "a/b"})
    assert (
        kind_of(spec).files(spec, [*needed, *clip])[1] == "text_encoder_3/config.json, text_encoder_3/model.safetensors"
    )
