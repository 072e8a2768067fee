"""Anyone's own data, as the file of `--data table:FILE.yaml` describes them. Paths are relative to that file."""

from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, field_validator, model_validator

from bddn.spec.base import Positive, Spec


def _as_list(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


Files = Annotated[tuple[str, ...], BeforeValidator(_as_list), Field(min_length=1)] | None
"""A file, or several that follow one another, such as one for each session."""


class StimuliSpec(Spec):
    """The images: files that a table names, or one array of images."""

    table: str | None = None
    """CSV, TSV or Parquet table with one row for each row of the responses, in the same order. None: an array, whose
    images are in the order of the responses."""
    images: str | None = None
    """Folder from which the file names of the table start; none means the folder of this YAML file."""
    array: str | None = None
    """HDF5 file, zarr store or .npy file with all images: uint8 of shape (images, height, width, 3)."""
    key: str = ""
    """Name of the array in the HDF5 file or zarr group."""
    id: str = "id"
    """Column of the stimulus ids. An id that occurs in several rows was shown several times."""
    file: str = "file"
    """Column of the file names."""
    row: str = "row"
    """Column of the number of each image in the array."""
    count_from: Literal[0, 1] = 0
    """Number of the first image in the array. It must be given where no row has the image 0."""
    session: str = "session"
    """Column of the session. It may be missing."""
    run: str = "run"
    """Column of the run. It may be missing."""
    repeat: str = "repeat"
    """Column that tells the repeats of an image apart. It may be missing."""
    covariates: tuple[str, ...] = ()
    """Columns of numbers that a fit may take out of single trials, such as old or new; empty cells are unknown."""

    @model_validator(mode="after")
    def _has_images(self) -> Self:
        if self.table is None and self.array is None:
            raise ValueError("given by 'table', 'array' or both")
        if self.array is not None and self.images is not None:
            raise ValueError("given without 'images' where an 'array' contains them")
        if self.array is None and self.key:
            raise ValueError("given without 'key' where there is no 'array'")
        return self


class ResponsesSpec(Spec):
    """The responses: of all voxels in one file, or of each hemisphere in its own."""

    file: Files = None
    """Responses of all voxels: .npy, HDF5, zarr, Parquet, GIFTI, NIfTI, MGH or CIFTI; or a list of such files, one for
    each session. With two hemispheres, the left one comes first."""
    lh: Files = None
    """Responses of the left hemisphere, in the same forms."""
    rh: Files = None
    """Responses of the right hemisphere, in the same forms."""
    key: str = ""
    """Name of the array in HDF5 files or zarr groups."""
    images: Literal["rows", "columns"] | None = None
    """What the images are in a .npy, HDF5, zarr or Parquet file. Other formats know it."""
    trials: Literal["single", "averaged"] | None = None
    """What a row is: a single trial, or a mean over trials. None: not stated."""

    @model_validator(mode="after")
    def _one_place(self) -> Self:
        if (self.file is None) == (self.lh is None and self.rh is None):
            raise ValueError("given by 'file', or by 'lh' and 'rh'")
        return self


class SidesSpec(Spec):
    """A file of each hemisphere, or of one if the data have only one."""

    lh: str | None = None
    """File of the left hemisphere."""
    rh: str | None = None
    """File of the right hemisphere."""

    @model_validator(mode="after")
    def _one_side(self) -> Self:
        if self.lh is None and self.rh is None:
            raise ValueError("given by 'lh', 'rh' or both")
        return self


class VoxelsSpec(Spec):
    """What the voxels are, and where they lie.

    Exactly one of `fsaverage`, `sphere`, `surface`, `table` and `mask` is given; beside one of the first three, `cifti`
    may tell which of their vertices there are.
    """

    fsaverage: Literal["fsaverage5", "fsaverage6", "fsaverage7"] | None = None
    """Vertices of a mesh of fsaverage. FreeSurfer's subject `fsaverage` is fsaverage7."""
    sphere: SidesSpec | None = None
    """Vertices of a native surface, which the registered spheres (lh.sphere.reg, or GIFTI) place on fsaverage."""
    surface: SidesSpec | None = None
    """Vertices of a native surface that is not registered to fsaverage (e.g. lh.white, or GIFTI); they are points."""
    table: str | None = None
    """CSV, TSV or Parquet table with the columns x_mm, y_mm, z_mm, and perhaps hemi and voxel: points of any kind."""
    mask: str | None = None
    """NIfTI volume of 0 and 1 whose affine gives the positions of the voxels; they are points."""
    space: Literal["MNI", "T1w", "other"] | None = None
    """Space of the mask's affine. In MNI space, the sign of x tells the hemisphere."""
    order: Literal["numpy", "matlab"] | None = None
    """Order of the mask's voxels in arrays and tables: that of numpy (and nilearn), or of MATLAB's find."""
    vertices: SidesSpec | None = None
    """Files that tell which vertices of a mesh the voxels are: a mask of 0 and 1, indices, or a FreeSurfer label. None:
    all vertices."""
    count_from: Literal[0, 1] = 0
    """Index of the first vertex of the mesh. It must be given where indices do not contain 0."""
    hemispheres: tuple[Literal["lh", "rh"], ...] = Field(default=("lh", "rh"), min_length=1)
    """Hemispheres of fsaverage that there are. Of other surfaces, and with `vertices`, the files tell it."""
    cifti: str | None = None
    """A CIFTI file whose brain models tell the vertices and the order of the columns. It may be that of the
    responses."""
    leave_out: tuple[Literal["nan", "constant"], ...] = ()
    """Voxels to leave out, which are counted: those with a response that is not a number, or with equal responses to
    all images. Otherwise, the first kind is an error."""

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        kinds = ("fsaverage", "sphere", "surface", "table", "mask")
        given = [kind for kind in kinds if getattr(self, kind) is not None]
        if len(given) != 1:
            raise ValueError(f"given by exactly one of {', '.join(kinds)}")
        of_mesh = given[0] in kinds[:3]
        if not of_mesh and (self.vertices is not None or self.cifti is not None):
            raise ValueError(f"given without 'vertices' and 'cifti' where it is a '{given[0]}'")
        if self.vertices is not None and self.cifti is not None:
            raise ValueError("given by 'vertices' or by 'cifti', not both")
        if (self.mask is None) != (self.space is None):
            raise ValueError("given with 'space' (MNI, T1w or other) where it is a 'mask', and only there")
        if self.mask is None and self.order is not None:
            raise ValueError("given with 'order' only where it is a 'mask'")
        if {*self.hemispheres} != {"lh", "rh"} and (self.fsaverage is None or self.vertices is not None):
            raise ValueError("given with 'hemispheres' only where it is 'fsaverage' without 'vertices'")
        return self


class NumbersSpec(Spec):
    """One number or label for each voxel."""

    column: str | None = None
    """Column of a table with one row for each voxel."""
    table: str | None = None
    """The table; none means that of the voxels."""
    file: str | None = None
    """File of all voxels: .npy, HDF5, zarr, NIfTI or CIFTI."""
    key: str = ""
    """Name of the array in the HDF5 file or zarr group."""
    lh: str | None = None
    """File of the left hemisphere: .npy, GIFTI, MGH, FreeSurfer .annot or .label."""
    rh: str | None = None
    """File of the right hemisphere, in the same forms."""

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        sides = self.lh is not None or self.rh is not None
        if (self.column is not None) + (self.file is not None) + sides != 1:
            raise ValueError("given by exactly one of 'column', 'file', and 'lh' with 'rh'")
        if self.table is not None and self.column is None:
            raise ValueError("given with the 'column' of the 'table'")
        return self


class RoiSpec(NumbersSpec):
    """An atlas: one label for each voxel, or none."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z][\w .+-]*$")]
    """Name of the atlas, which becomes a column. A FreeSurfer .label, which is one ROI, gives it this name."""
    labels: dict[str, str] | None = Field(default=None, min_length=1)
    """Name of each number in the file, e.g. {1: V1, 2: V2}. Formats that contain the names need none."""


class CeilingSpec(NumbersSpec):
    """Noise ceilings."""

    unit: Literal["r2", "r", "percent", "ncsnr"] = "r2"
    """What the numbers are: the explainable share of variance, 0 to 1 (`r2`); its root (`r`); percent of variance; or
    the ratio of the standard deviations of signal and noise in a single trial (`ncsnr`)."""
    n_trials: Positive | None = None
    """Number of trials averaged in each response, for `ncsnr`; none means that the table of stimuli has a row for each
    trial."""


class OwnerSpec(Spec):
    """What the owner of the data says about them. Pages state what is missing here as 'not stated'."""

    description: str | None = None
    """Sentences for the Methods text that say what the responses are."""
    citation: tuple[str, ...] = ()
    """Publications that a paper must cite."""
    terms: str | None = None
    """Terms of use."""
    show_images: bool = False
    """Whether the terms let a page that is passed on contain small copies of the images."""
    share_responses: bool = False
    """Whether the terms let anyone pass the responses on, e.g. with an exported encoder."""


class OwnDataSpec(Spec):
    """Anyone's own data: stimuli, responses to them, and voxels."""

    title: str
    """One line for people."""
    stimuli: StimuliSpec
    """The images, and which of them each row of the responses is about."""
    responses: ResponsesSpec
    """The responses."""
    repeats: Literal["average", "single"] = "average"
    """What happens with several responses to one image: they are averaged, or kept as single trials."""
    voxels: VoxelsSpec
    """What the voxels are, and where they lie."""
    rois: tuple[RoiSpec, ...] = ()
    """Atlases. The ROI of a voxel is its label in the first of them that has one."""
    ceiling: CeilingSpec | None = None
    """Noise ceilings; none means that they are computed from repeats, if there are any."""
    owner: OwnerSpec = OwnerSpec()
    """What the owner says about the data."""

    @model_validator(mode="after")
    def _covariates_of_trials(self) -> Self:
        if self.stimuli.covariates and self.repeats != "single":
            raise ValueError("with 'repeats: single' where there are covariates, which belong to single trials")
        if self.repeats == "single" and self.stimuli.table is None:
            raise ValueError("with a table of stimuli where repeats are single trials")
        return self

    @field_validator("rois")
    @classmethod
    def _rois_differ(cls, rois: tuple[RoiSpec, ...]) -> tuple[RoiSpec, ...]:
        names = [roi.name.casefold() for roi in rois]
        taken = {"hemi", "vertex", "roi", "ceiling", "voxel", "x_mm", "y_mm", "z_mm"}
        wrong = [roi.name for roi in rois if roi.name.casefold() in taken or names.count(roi.name.casefold()) > 1]
        if wrong:
            raise ValueError(f"atlases with different names that no other column has, not '{wrong[0]}'")
        return rois
