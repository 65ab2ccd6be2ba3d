"""Per slide: pyramid; once or by folds: train; per slide: predict, export; once: a table."""

from pathlib import Path

from snakemake.utils import min_version, validate

from saccade.pipeline.job_costs import COSTS
from saccade.pipeline.workflow import SLIDE, Cohort, sheet_table

min_version("9.0")


validate(config, "../schemas/config.schema.yaml")  # fills in defaults, too


# Inert unless asked for by --software-deployment-method apptainer.
container: config["container"]


# A mistake in the sheet or in the run's settings stops here, before the first job. On a cluster each
# job reads them again: looking for all slides each time would grow with the square of the cohort.
COHORT = Cohort.load(config, check=workflow.is_main_process)
if workflow.is_main_process:
    validate(sheet_table(Path(config["slides"])), "../schemas/slides.schema.yaml")
RESULTS = config["results"]


report: "../report/workflow.rst"


localrules:
    all,


wildcard_constraints:
    slide=SLIDE,
    fold="fold_[0-9]+",


rule all:
    input:
        f"{RESULTS}/summary.csv",
        expand(f"{RESULTS}/{{slide}}/qupath/attention.geojson", slide=COHORT.predicted),
        expand(f"{RESULTS}/{{slide}}/saliency.png", slide=COHORT.with_saliency),
        expand(f"{RESULTS}/{{slide}}/embedding/features.h5", slide=COHORT.embedded),
        expand(f"{RESULTS}/{{slide}}/mask.png", slide=COHORT.with_masks),
        expand(f"{RESULTS}/{{slide}}/segmentation.png", slide=COHORT.segmented),
        expand(f"{RESULTS}/{{slide}}/evidence.png", slide=COHORT.with_evidence),
        expand(f"{RESULTS}/{{slide}}/detection.png", slide=COHORT.with_objects),


include: "slides.smk"
include: "evaluate.smk"


if COHORT.folds:

    include: "folds.smk"

elif COHORT.training:

    include: "training.smk"


if config["saliency"]:

    include: "saliency.smk"


if config["embed"]:

    include: "embed.smk"


if config["mask"]:

    include: "mask.smk"


if config["segment"]:

    include: "segment.smk"


if config["evidence"]:

    include: "evidence.smk"


if config["detect"]:

    include: "detect.smk"


# A slide that fails costs neither the others (with --keep-going) nor the table, which names it.
onerror:
    shell(
        "saccade evaluate {RESULTS:q} --slides {config[slides]:q} --out {RESULTS:q}"
        " {COHORT.which_flag} {COHORT.stage_flags} 2> {RESULTS:q}/logs/evaluate.log || true"
    )
