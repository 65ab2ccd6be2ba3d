"""The cluster that other tests run on is one: nodes, memory, a GPU that is handed out."""

from tests.cluster.slurm import Slurm, wait_for


def test_jobs_run_on_nodes_of_their_own(slurm: Slurm) -> None:
    said = slurm.ask("srun", "-N2", "-n2", "sh", "-c", "echo $SLURMD_NODENAME")
    assert sorted(said.split()) == ["cpu1", "cpu2"]


def test_a_gpu_is_handed_out_once(slurm: Slurm) -> None:
    said = slurm.ask("srun", "-p", "gpu", "--gpus=1", "sh", "-c", "echo $CUDA_VISIBLE_DEVICES")
    assert said == "0\n"
    command = [
        "sbatch",
        "--parsable",
        "--output=/dev/null",
        "-p",
        "gpu",
        "--gpus=1",
        "--comment=gpu",
        "--wrap=sleep 60",
    ]
    first, second = (slurm.ask(*command).strip() for _ in range(2))
    wait_for("the first job", lambda: slurm.running("gpu"), limit_s=60)
    slurm.ask("srun", "true")  # on another node, after which the second could have been started
    assert [job.number for job in slurm.running("gpu")] == [first]
    slurm.ask("scancel", first, second)


def test_the_queue_and_the_record_name_jobs(slurm: Slurm) -> None:
    number = slurm.ask(
        "sbatch", "--parsable", "--hold", "--comment=held", "--output=/dev/null", "--wrap=true"
    ).strip()
    (job,) = (job for job in slurm.queue() if job.comment == "held")
    assert (job.number, job.state) == (number, "PENDING")
    slurm.ask("scancel", number)
    assert number not in [job.number for job in slurm.queue()]
    assert {each["JobId"]: each["JobState"] for each in slurm.ended()}[number] == "CANCELLED"
