"""Which layers a spec asks for: globs stay within the levels of a name, and what they matched is told."""

import pytest

from bddn.backbones.kind import kind_of
from bddn.backbones.layers import matched, matching, select
from bddn.backbones.registry import load_spec, spec_names
from bddn.errors import SpecError
from bddn.spec import TransformersSpec

PARTS = ("", ".norm1", ".attn", ".attn.qkv", ".attn.proj", ".norm2", ".mlp", ".mlp.fc1")
VIT = ("patch_embed", "blocks", *(f"blocks.{i}{part}" for i in range(12) for part in PARTS), "norm2", "head")


def blocks(*numbers: int, part: str = "") -> tuple[str, ...]:
    return tuple(f"blocks.{i}{part}" for i in numbers)


@pytest.mark.parametrize(
    ("glob", "names"),
    [
        ("blocks.*", blocks(*range(12))),
        ("blocks.?", blocks(*range(10))),
        ("blocks.1*", blocks(1, 10, 11)),
        ("blocks.1?", blocks(10, 11)),
        ("blocks.[0-2]", blocks(0, 1, 2)),
        ("blocks.[!0-8]", blocks(9)),
        ("blocks.*.norm2", blocks(*range(12), part=".norm2")),
        ("**.norm2", (*blocks(*range(12), part=".norm2"), "norm2")),  # also at no level
        ("blocks.**.qkv", blocks(*range(12), part=".attn.qkv")),
        ("*", ("patch_embed", "blocks", "norm2", "head")),
        ("**", VIT),
        ("block?.*", blocks(*range(12))),
        ("blocks?0", ()),  # a dot is no character of a name
        ("blocks[.]0", ()),
        ("blocks[!x]0", ()),
        ("blocks.[9-0]", ()),
        ("blocks.[", ()),
    ],
)
def test_a_star_is_one_level_and_two_are_any_number(glob: str, names: tuple[str, ...]) -> None:
    assert matching(glob, VIT) == names


def test_all_within_a_module_is_what_is_in_it_and_not_itself() -> None:
    assert matching("blocks.**", VIT) == tuple(name for name in VIT if name.startswith("blocks."))


def test_names_with_signs_of_regular_expressions_are_plain_names() -> None:
    names = ("a+b", "aab", "up_2.resnet_0@t1", "(x)", "a^b")
    assert matching("a+b", names) == ("a+b",)
    assert matching("[(]x)", names) == ("(x)",)
    assert matching("a[^]b", names) == ("a^b",)
    assert matching("up_*.resnet_*@t1", names) == ("up_2.resnet_0@t1",)


def test_a_glob_that_is_one_level_short_says_so() -> None:
    with pytest.raises(SpecError, match=r"'\*' matches one level.*: blocks\.\*\*qkv would match"):
        select(["blocks.*qkv"], VIT, "net")
    wrapped = tuple(f"base_model.model.{name}" for name in VIT)
    with pytest.raises(SpecError, match=r"\*\*\.blocks\.\* would match base_model\.model\.blocks\.0"):
        select(["blocks.*"], wrapped, "PeftModel")


def test_numbers_and_depth_count_all_layers() -> None:
    names = tuple(f"block_{i}" for i in range(12))
    assert select([0, "50%", -1, "block_1*"], names, "net") == ("block_0", "block_1", "block_6", "block_10", "block_11")


def test_what_each_glob_matched_is_told() -> None:
    chosen = select(["blocks.*", "head", "**.norm2", "blocks.[01]"], VIT, "net")
    assert matched(["blocks.*", "head", "**.norm2", "blocks.[01]"], chosen) == [
        "blocks.* → 12: blocks.0 … blocks.11",
        "**.norm2 → 13: blocks.0.norm2 … norm2",
        "blocks.[01] → 2: blocks.0, blocks.1",
    ]
    assert matched(None, VIT) == matched(["head", 0, "50%"], VIT) == []


SELECTED = {  # layers of the specs that name some
    "sd_grid": (40, "down_0.resnet_0@t10", "up_3.resnet_0@t50"),
    "sd_steps": (50, "up_2.resnet_0@t1", "up_2.resnet_0@t50"),
    "sd_t20": (20, "down_0.resnet_0@t30", "up_3.resnet_2@t30"),
    "sd_t25": (20, "down_0.resnet_0@t25", "up_3.resnet_2@t25"),
    "sd_t40": (20, "down_0.resnet_0@t10", "up_3.resnet_2@t10"),
    "sdxl": (15, "down_0.resnet_0@t10", "up_2.resnet_2@t10"),
    "sdxl_grid": (30, "down_0.resnet_0@t10", "up_2.resnet_0@t50"),
    "sd3_medium": (24, "block_0@t8", "block_23@t8"),
    "sd35_medium": (24, "block_0@t8", "block_23@t8"),
    "sd35_large": (19, "block_1@t8", "block_37@t8"),
    "flux_schnell": (19, "double_0@t17", "single_35@t17"),
    "flux_schnell_grid": (25, "double_0@t1", "single_37@t5"),
    "flux_dev": (19, "double_0@t8", "single_35@t8"),
    "alexnet": (5, "features.1", "features.11"),
}


@pytest.mark.parametrize("name", [name for name in spec_names() if name != "demo"])
def test_the_specs_select_what_they_say(name: str) -> None:
    layers = list(kind_of(load_spec(name)).outline(load_spec(name)))
    if name in SELECTED:
        assert (len(layers), layers[0], layers[-1]) == SELECTED[name]
    elif layers[0].startswith("stage_"):
        about = load_spec(name).section(TransformersSpec)
        assert layers == [f"stage_{i}.block_{j}" for i, (n, *_) in enumerate(about.stages or ()) for j in range(n)]
    else:
        block = "blocks." if getattr(load_spec(name).backbone, "family", "") == "timm" else "block_"
        assert layers == [f"{block}{i}" for i in range(len(layers))]
