"""The official commands that get missing files of public datasets from their buckets. bddn never runs them."""

from pathlib import Path


def copy_command(bucket: str, *files: Path) -> str:
    """Return the command for the first of some files, and the paths of the others, as the end of a sentence.

    Parameters
    ----------
    bucket : str
        Such as 's3://laion-fmri'.
    files : Path
        Relative to the bucket and to the folder of the data.
    """
    first, *others = (file.as_posix() for file in files)
    more = f" Get {', '.join(others)} in the same way." if others else ""
    return f"run, in the folder of the data, 'aws s3 cp --no-sign-request {bucket}/{first} {first}'.{more}"
