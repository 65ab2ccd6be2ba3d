from pathlib import Path

import pytest

from saccade.pipeline.job_costs import COSTS, JobCost, gpus_here

RULES = Path(__file__).parents[2] / "pipeline" / "rules"


@pytest.mark.parametrize("cost", COSTS.values(), ids=COSTS)
def test_each_attempt_gets_twice_as_much(cost: JobCost) -> None:
    for of in (cost.mem_mb, cost.runtime):
        assert of(0, 2) == 2 * of(0, 1)
        assert of(0, 3) == 4 * of(0, 1)
        assert of(0) == of(0, 1) > 0


def test_a_larger_slide_gets_more() -> None:
    cost = JobCost(memory=1000, memory_per_gb=500, minutes=10, minutes_per_gb=60)
    assert [cost.mem_mb(size) for size in (0, 1000, 3000)] == [1000, 1500, 2500]
    assert [cost.runtime(size) for size in (0, 500, 1)] == [10, 40, 11]


def test_each_rule_that_runs_a_command_has_a_cost_and_asks_for_it() -> None:
    text = "".join(path.read_text() for path in RULES.glob("*.smk"))
    rules = {rule.partition(":")[0]: rule for rule in text.split("\nrule ")[1:] if "shell:" in rule}
    assert "pyramid" in rules
    for rule, body in rules.items():
        assert f'threads: COSTS["{rule}"].threads' in body
        assert f'mem_mb=COHORT.mem_mb("{rule}")' in body
        assert f'runtime=COHORT.runtime("{rule}")' in body


def test_gpus_are_counted_by_their_device_files(tmp_path: Path) -> None:
    for name in ("nvidia0", "nvidia1", "nvidiactl", "nvidia-uvm", "sda"):
        (tmp_path / name).touch()
    assert gpus_here(tmp_path) == 2
