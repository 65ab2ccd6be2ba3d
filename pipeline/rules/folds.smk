rule split:
    """Deal the slides into folds, by patient; the workflow has dealt them alike for its plan."""
    input:
        # Its age does not count: only the deal, in params.dealt, concerns the folds.
        sheet=ancient(config["slides"]),
        run=config["run"],
    output:
        overview=COHORT.overview,
        sheets=expand(f"{RESULTS}/model/{{fold}}/slides.csv", fold=COHORT.folds),
    log:
        f"{RESULTS}/logs/split.log",
    benchmark:
        f"{RESULTS}/benchmarks/split.tsv"
    threads: COSTS["split"].threads
    resources:
        mem_mb=COHORT.mem_mb("split"),
        runtime=COHORT.runtime("split"),
    params:
        out=lambda wildcards, output: COHORT.folder(output.overview),
        folds=len(COHORT.folds),
        seed=COHORT.run.splits.seed,
        dealt=COHORT.training.dealt,
    shell:
        "saccade split {input.sheet:q} --out {params.out:q} --folds {params.folds}"
        " --seed {params.seed} --config {input.run:q} --replace 2> {log:q}"


rule train:
    """A model for each fold, which does not see the slides that the fold holds out."""
    input:
        # Neither its age counts, nor that of the pyramids, as in training.smk.
        sheet=ancient(f"{RESULTS}/model/{{fold}}/slides.csv"),
        run=config["run"],
        slides=lambda wildcards: COHORT.training.files(wildcards.fold),
        pyramids=ancient(
            lambda wildcards: expand(
                f"{RESULTS}/.done/pyramid/{{slide}}",
                slide=COHORT.training.slides(wildcards.fold),
            )
        ),
    output:
        model=f"{RESULTS}/model/{{fold}}/model.safetensors",
        last=f"{RESULTS}/model/{{fold}}/last.safetensors",
        metrics=f"{RESULTS}/model/{{fold}}/metrics.jsonl",
        record=f"{RESULTS}/model/{{fold}}/record.json",
    log:
        f"{RESULTS}/logs/train/{{fold}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/train/{{fold}}.tsv"
    threads: COSTS["train"].threads
    resources:
        **COHORT.training_job.resources,
        mem_mb=COHORT.mem_mb("train"),
        runtime=COHORT.runtime("train"),
    params:
        out=lambda wildcards, output: COHORT.folder(output.model),
        pyramids=lambda wildcards, output: COHORT.folder(output.model, up=3),
        device=config["device"],
        launcher=lambda wildcards, threads: COHORT.training_job.launcher(threads),
        processes=COHORT.training_job.flag,
        rows=lambda wildcards: COHORT.training.told(wildcards.fold),
    shell:
        "{params.launcher}saccade train {input.run:q} --slides {input.sheet:q}"
        " --out {params.out:q} --replace --by-sheet --pyramids {params.pyramids:q}"
        " --device {params.device} {params.processes} 2> {log:q}"
