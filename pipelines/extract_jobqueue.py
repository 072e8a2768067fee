"""Extract one backbone on a SLURM cluster through dask-jobqueue: one GPU per worker, workers come and go.

    pip install dask-jobqueue
    python pipelines/extract_jobqueue.py clip_vit_b16 algonauts:data/subj01 build/clip.zarr --workers 8 --queue gpu

A worker that is pre-empted costs the shard it was at. Should this process end, the same command goes on.
"""

from typing import Annotated

import typer
from distributed import Client

from bddn.backbones.registry import load_spec
from bddn.cli import clear_errors
from bddn.data import open_dataset
from bddn.extract import extract
from bddn.extract.cluster import Cluster

HOURS = 4


@clear_errors
def extract_jobqueue(
    spec: Annotated[str, typer.Argument(help="Name of a spec in cache_specs/, or a .yaml file.")],
    data: Annotated[str, typer.Argument(help="A dataset, KIND:PATH, on a disk that all nodes see.")],
    out: Annotated[str, typer.Argument(help="The feature cache: a folder that all nodes see, or a URL.")],
    workers: Annotated[int, typer.Option(min=1, help="Jobs to ask for.")] = 4,
    queue: Annotated[str | None, typer.Option(help="Partition.")] = None,
    account: Annotated[str | None, typer.Option(help="Who pays.")] = None,
    interface: Annotated[str | None, typer.Option(help="Network of the nodes, e.g. ib0.")] = None,
    show: Annotated[bool, typer.Option("--show", help="Only print the job script.")] = False,
) -> None:
    """Ask SLURM for workers, and extract on them."""
    from dask_jobqueue import SLURMCluster

    cluster = SLURMCluster(
        queue=queue,
        account=account,
        interface=interface,
        cores=4,
        processes=1,
        memory="32GB",
        walltime=f"{HOURS:02d}:00:00",
        job_extra_directives=["--gres=gpu:1"],
        # a worker ends by itself before SLURM ends it, and another takes its place
        worker_extra_args=["--nthreads", "1", "--resources", "GPU=1", "--lifetime", f"{60 * HOURS - 15}m"],
    )
    if show:
        typer.echo(cluster.job_script())
        return
    cluster.scale(workers)
    with cluster, Client(cluster) as client:
        client.wait_for_workers(1)
        done = extract(load_spec(spec), open_dataset(data), out, device="cuda", work=Cluster(client, "cuda", 1))
    typer.echo(f"cache: {out}, {done.n_images} images, digest {done.digest}")


if __name__ == "__main__":
    typer.run(extract_jobqueue)
