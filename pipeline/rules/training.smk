rule train:
    """Attention and features together, from one label a slide."""
    input:
        # Its age does not count: of its rows only those in params.rows concern the model.
        sheet=ancient(config["slides"]),
        run=config["run"],
        slides=[file for slide in COHORT.trained for file in COHORT.files(slide)],
        # The pyramids have to be there, but one that is built again is the same one: that is no
        # reason to train again. Hence marks beside the slides' folders, whose age does not count.
        pyramids=ancient(
            expand(f"{RESULTS}/.done/pyramid/{{slide}}", slide=COHORT.trained)
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
    threads: 64
    resources:
        mem_mb=8000,
        gpu=COHORT.gpu,
    params:
        out=lambda wildcards, output: COHORT.folder(output.model),
        pyramids=lambda wildcards, output: COHORT.folder(COHORT.folder(output.model)),
        device=config["device"],
        rows=COHORT.training_rows,
    shell:
        "saccade train {input.run:q} --slides {input.sheet:q} --out {params.out:q} --replace"
        " --pyramids {params.pyramids:q} --device {params.device} 2> {log:q}"


rule evaluate:
    """All predictions in one table, and how good they are."""
    input:
        sheet=config["slides"],
        predictions=expand(
            f"{RESULTS}/{{slide}}/prediction.json", slide=COHORT.predicted
        ),
    output:
        table=f"{RESULTS}/summary.csv",
        metrics=f"{RESULTS}/metrics.json",
        failures=f"{RESULTS}/failures.csv",
    log:
        f"{RESULTS}/logs/evaluate.log",
    benchmark:
        f"{RESULTS}/benchmarks/evaluate.tsv"
    threads: 1
    resources:
        mem_mb=1000,
    params:
        results=lambda wildcards, output: COHORT.folder(output.table),
        split=COHORT.split_flag,
    shell:
        "saccade evaluate {params.results:q} --slides {input.sheet:q} --out {params.results:q}"
        " {params.split} 2> {log:q}"
