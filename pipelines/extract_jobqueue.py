"""Extract one backbone on a SLURM cluster through dask-jobqueue: every worker is a job.

    pip install 'bddn[slurm]'
    python pipelines/extract_jobqueue.py clip_vit_b16 algonauts:data/subj01 build/clip.zarr --workers 8 --queue gpu
    python pipelines/extract_jobqueue.py clip_vit_b16 algonauts:data/subj01 build/clip.zarr --gpus 0 --cores 16

A worker ends before its time limit, and a new job replaces it, as after a pre-emption. Each time, only the worker's
current shard is computed again. If this process ends, the same command resumes.
"""

from typing import Annotated

import typer
from distributed import Client

from bddn.backbones.registry import load_spec
from bddn.cli import clear_errors
from bddn.data import open_dataset
from bddn.extraction import extract
from bddn.extraction.cluster import DEVICE, Cluster


@clear_errors
def extract_jobqueue(
    spec: Annotated[str, typer.Argument(help="Name of a spec in cache_specs/, or a .yaml file.")],
    data: Annotated[str, typer.Argument(help="A dataset, KIND:PATH, on a disk that all nodes can read.")],
    out: Annotated[str, typer.Argument(help="The feature cache: a folder that all nodes can write, or a URL.")],
    workers: Annotated[int, typer.Option(min=1, help="Number of jobs that run at the same time.")] = 4,
    gpus: Annotated[int, typer.Option(min=0, max=1, help="GPUs of each job; 0: the network runs on CPU cores.")] = 1,
    cores: Annotated[int, typer.Option(min=1, help="Cores of each job.")] = 4,
    memory: Annotated[str, typer.Option(help="Memory of each job.")] = "32GB",
    minutes: Annotated[int, typer.Option(min=1, help="Time limit of each job.")] = 240,
    queue: Annotated[str | None, typer.Option(help="SLURM partition.")] = None,
    account: Annotated[str | None, typer.Option(help="SLURM account.")] = None,
    interface: Annotated[str | None, typer.Option(help="Network interface of the nodes, e.g. ib0.")] = None,
    directive: Annotated[
        list[str] | None, typer.Option(help="Additional option of sbatch, e.g. --qos=long; may be repeated.")
    ] = None,
    show: Annotated[bool, typer.Option("--show", help="Only print the job script.")] = False,
) -> None:
    """Request workers from SLURM, and extract on them."""
    from dask_jobqueue import SLURMCluster

    device = "cuda" if gpus else "cpu"
    on_gpu = ["--resources", f"{DEVICE}=1"] if gpus else []
    with SLURMCluster(
        queue=queue,
        account=account,
        interface=interface,
        cores=1,  # threads of the worker, which has one task at a time; the network runs on all cores of the job
        job_cpu=cores,
        processes=1,
        memory=memory,
        walltime=str(minutes),
        job_extra_directives=[*(["--gres=gpu:1"] if gpus else []), *(directive or [])],
        worker_extra_args=[*on_gpu, "--lifetime", f"{60 * minutes * 15 // 16}s"],
    ) as cluster:
        if show:
            typer.echo(cluster.job_script())
            return
        cluster.adapt(minimum_jobs=workers, maximum_jobs=workers)  # replace jobs that end
        with Client(cluster) as client:
            client.wait_for_workers(1)
            done = extract(load_spec(spec), open_dataset(data), out, device=device, work=Cluster(client, device, cores))
    typer.echo(f"cache: {out}, {done.n_images} images, digest {done.digest}")


if __name__ == "__main__":
    typer.run(extract_jobqueue)
