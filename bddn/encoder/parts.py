"""The response rows of the training, validation and test images."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from bddn.data.splits import Split
from bddn.stream.order import Rows, by_image, distinct


@dataclass(frozen=True)
class Parts:
    """Response rows of the training, validation and test images, image by image.

    Attributes
    ----------
    train, val, test : array of int
    image_of : array of int, (n_rows,), optional
        The image of every row, if images have several rows; all of them are in one part.
    """

    train: Rows
    val: Rows
    test: Rows
    image_of: Rows | None = None

    @classmethod
    def of(cls, split: Split, ids: Sequence[str]) -> "Parts":
        """Return the rows of a split; `ids` names the stimulus of each row."""
        first, image_of = distinct(ids)
        repeated = image_of if len(first) < len(ids) else None
        rows_of = {ids[rows[0]]: rows.tolist() for rows in by_image(np.arange(len(ids)), repeated)}
        parts = ([row for i in part for row in rows_of[i]] for part in (split.train, split.val, split.test))
        train, val, test = (np.array(rows, np.intp) for rows in parts)
        return cls(train, val, test, repeated)

    def resampled(self, seed: int, bootstrap: int | None) -> "Parts":
        """Return parts with training images drawn with replacement, for this bootstrap; None draws nothing."""
        if bootstrap is None:
            return self
        # images are drawn, each with all its rows: rows of one image share its tokens, and if single rows were drawn,
        # nearly every image would be in every bootstrap, so that fits would differ too little
        images = by_image(self.train, self.image_of)
        drawn = np.random.default_rng([seed, 2, bootstrap]).integers(0, len(images), len(images))
        return replace(self, train=np.concatenate([images[k] for k in np.sort(drawn)]))

    def halved(self, seed: int, half: int | None) -> "Parts":
        """Return parts with one half of the training images, 0 or 1, which are drawn by the seed; None means all."""
        if half is None:
            return self
        images = by_image(self.train, self.image_of)
        order = np.random.default_rng([seed, 3]).permutation(len(images))
        return replace(self, train=np.concatenate([images[k] for k in np.sort(order[half::2])]))

    def images(self, rows: Rows) -> Rows:
        """Return the number of the image of each of some rows, counted from 0 in the order of the rows."""
        return np.arange(len(rows)) if self.image_of is None else distinct(self.image_of[rows])[1]

    def one_of_each(self, rows: Rows) -> Rows:
        """Return the first row of each image among some rows."""
        return rows if self.image_of is None else rows[distinct(self.image_of[rows])[0]]
