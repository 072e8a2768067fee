"""What a calling script has set in torch is set aside, and restored."""

from typing import Any

import pytest
import torch

from bddn.machine.settings import own_settings

BACKENDS: Any = torch.backends
KINDS = {
    f"{where}.{what}": getattr(getattr(BACKENDS, where), what)
    for where, what in (
        ("cuda", "matmul"),
        ("cudnn", "conv"),
        ("cudnn", "rnn"),
        ("mkldnn", "matmul"),
        ("mkldnn", "conv"),
    )
}


def _state() -> dict[str, Any]:
    found = {name: kind.fp32_precision for name, kind in KINDS.items()}
    return found | {name: getattr(BACKENDS.cudnn, name) for name in ("benchmark", "deterministic")}


@pytest.mark.parametrize(
    ("where", "name", "value"),
    [
        (BACKENDS.cudnn, "benchmark", True),
        (BACKENDS.cudnn, "allow_tf32", False),
        (KINDS["cuda.matmul"], "allow_tf32", True),
        (KINDS["cuda.matmul"], "fp32_precision", "tf32"),  # torch then refuses to tell its older settings
        (KINDS["cudnn.conv"], "fp32_precision", "ieee"),
        (KINDS["mkldnn.conv"], "fp32_precision", "bf16"),
    ],
    ids=lambda one: one if isinstance(one, str) else None,
)
def test_arithmetic_is_float32_and_the_same_in_every_run(where: Any, name: str, value: object) -> None:
    kept = getattr(where, name)
    setattr(where, name, value)
    try:
        before = _state()
        with own_settings():
            assert _state() == dict.fromkeys(KINDS, "ieee") | {"benchmark": False, "deterministic": True}
            with own_settings():
                pass
            assert torch.get_float32_matmul_precision() == "highest"
        assert _state() == before
        assert getattr(where, name) == value
    finally:
        setattr(where, name, kept)
        torch.set_float32_matmul_precision("highest")
