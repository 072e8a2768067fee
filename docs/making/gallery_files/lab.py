"""A lab that knows its voxels by their coordinates on the pial surface, and in which twelve images occur twice."""

from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from bddn.cortex.fsaverage import fsaverage5
from bddn.data import open_dataset

brain, lab, n_twice = open_dataset("planted:build/small"), Path("lab"), 12
lab.mkdir()
voxels, responses, images = brain.voxels(), brain.responses(), brain.stimuli.paths
names = [f"{k:03d}.jpg" for k in range(len(images) + n_twice)]
for name, path in zip(names, [*images, *images[:n_twice]], strict=True):
    Image.open(path).save(lab / name, quality=90 if name < names[len(images)] else 60)
pd.DataFrame({"id": names, "file": names}).to_csv(lab / "stimuli.csv", index=False)
np.save(lab / "responses.npy", np.vstack([responses, responses[:n_twice]]))
pial = {hemi: fsaverage5("pial", hemi)[0] for hemi in ("lh", "rh")}
places = np.array([pial[hemi][vertex] for hemi, vertex in zip(voxels["hemi"], voxels["vertex"], strict=True)])
table = pd.DataFrame(places, columns=["x_mm", "y_mm", "z_mm"])
table = table.assign(hemi=voxels["hemi"], area=voxels["roi"], noise_ceiling=voxels["ceiling"])
table.to_csv(lab / "voxels.csv", index=False)
