"""What decides a split beside the seed."""

from typing import Annotated, Self

from pydantic import Field, model_validator

from bddn.spec.base import Spec


class SplitBy(Spec):
    """What decides a split beside the seed: clusters of similar images, categories of a table, or a file of the split.

    Exactly one of `clusters`, `categories` and `file` is given.
    """

    clusters: Annotated[int, Field(ge=3, lt=2**31)] | None = None
    """Number of clusters of images, by the global tokens of one layer. Whole clusters are held out, so that the test
    images have no near neighbours in training."""
    layer: str | None = None
    """Cached layer whose global tokens are clustered; none means the last layer of the fit."""
    categories: str | None = None
    """CSV file with the columns `stimulus` and `category`. Whole categories are held out."""
    test: tuple[str, ...] | None = Field(default=None, min_length=1)
    """Categories of the test images. All other images are split by image into training and validation. None means that
    the seed draws whole categories for each part."""

    file: str | None = None
    """JSON file with the stimuli of `train`, `val` and `test`, such as the `split.json` of another run, so that fits on
    several caches have the same test images."""

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        if sum(kind is not None for kind in (self.clusters, self.categories, self.file)) != 1:
            raise ValueError("with exactly one of 'clusters', 'categories' and 'file'")
        if self.layer is not None and self.clusters is None:
            raise ValueError("with 'layer' only beside 'clusters'")
        if self.test is not None and self.categories is None:
            raise ValueError("with 'test' only beside 'categories'")
        return self
