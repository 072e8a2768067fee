"""Specs: frozen settings that are checked when they are created."""

from bddn.spec.backbone import AlexNetSpec, BackboneSpec, DiffusionSpec, FamilySpec, HookedSpec, ModuleSpec, TimmSpec
from bddn.spec.base import Spec
from bddn.spec.cache import PRECISION, CacheSpec, WeightsSpec
from bddn.spec.finetune import FinetuneSpec, ParentSpec
from bddn.spec.fit import RECIPES, FitSpec
from bddn.spec.library import PixelsSpec, PrefixSpec, TransformersSpec
from bddn.spec.own_data import (
    CeilingSpec,
    NumbersSpec,
    OwnDataSpec,
    OwnerSpec,
    ResponsesSpec,
    RoiSpec,
    SidesSpec,
    StimuliSpec,
    VoxelsSpec,
)
from bddn.spec.plant import PlantSpec
from bddn.spec.split_by import SplitBy

__all__ = [
    "PRECISION",
    "RECIPES",
    "AlexNetSpec",
    "BackboneSpec",
    "CacheSpec",
    "CeilingSpec",
    "DiffusionSpec",
    "FamilySpec",
    "FinetuneSpec",
    "FitSpec",
    "HookedSpec",
    "ModuleSpec",
    "NumbersSpec",
    "OwnDataSpec",
    "OwnerSpec",
    "ParentSpec",
    "PixelsSpec",
    "PlantSpec",
    "PrefixSpec",
    "ResponsesSpec",
    "RoiSpec",
    "SidesSpec",
    "Spec",
    "SplitBy",
    "StimuliSpec",
    "TimmSpec",
    "TransformersSpec",
    "VoxelsSpec",
    "WeightsSpec",
]
