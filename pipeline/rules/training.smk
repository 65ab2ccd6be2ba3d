rule train:
    """Attention and features together, from one label a slide."""
    input:
        # Its age does not count: of its rows only those in params.rows concern the model.
        sheet=ancient(config["slides"]),
        run=config["run"],
        slides=COHORT.training.files(),
        # The pyramids have to be there, but one that is built again is the same one: that is no
        # reason to train again. Hence marks beside the slides' folders, whose age does not count.
        pyramids=ancient(
            expand(
                f"{RESULTS}/.done/pyramid/{{slide}}", slide=COHORT.training.slides()
            )
        ),
    output:
        model=f"{RESULTS}/model/model.safetensors",
        last=f"{RESULTS}/model/last.safetensors",
        metrics=f"{RESULTS}/model/metrics.jsonl",
        record=f"{RESULTS}/model/record.json",
    log:
        f"{RESULTS}/logs/train.log",
    benchmark:
        f"{RESULTS}/benchmarks/train.tsv"
    threads: COSTS["train"].threads
    resources:
        **COHORT.training_job.resources,
        mem_mb=COHORT.mem_mb("train"),
        runtime=COHORT.runtime("train"),
    params:
        out=lambda wildcards, output: COHORT.folder(output.model),
        pyramids=lambda wildcards, output: COHORT.folder(output.model, up=2),
        device=config["device"],
        launcher=lambda wildcards, threads: COHORT.training_job.launcher(threads),
        processes=COHORT.training_job.flag,
        rows=COHORT.training.told(),
    shell:
        "{params.launcher}saccade train {input.run:q} --slides {input.sheet:q}"
        " --out {params.out:q} --replace --pyramids {params.pyramids:q}"
        " --device {params.device} {params.processes} 2> {log:q}"
