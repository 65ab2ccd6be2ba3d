rule evaluate:
    """All predictions in one table, and how good they are."""
    input:
        sheet=config["slides"],
        overview=[COHORT.overview] if COHORT.folds else [],
        predictions=expand(
            f"{RESULTS}/{{slide}}/prediction.json", slide=COHORT.predicted
        ),
    output:
        table=report(
            f"{RESULTS}/summary.csv",
            caption="../report/summary.rst",
            category="Cohort",
            labels={"table": "slides"},
        ),
        metrics=report(
            f"{RESULTS}/metrics.json",
            caption="../report/metrics.rst",
            category="Cohort",
            labels={"table": "metrics"},
        ),
        failures=report(
            f"{RESULTS}/failures.csv",
            caption="../report/failures.rst",
            category="Cohort",
            labels={"table": "failures"},
        ),
    log:
        f"{RESULTS}/logs/evaluate.log",
    benchmark:
        f"{RESULTS}/benchmarks/evaluate.tsv"
    threads: COSTS["evaluate"].threads
    resources:
        mem_mb=COHORT.mem_mb("evaluate"),
        runtime=COHORT.runtime("evaluate"),
    params:
        results=lambda wildcards, output: COHORT.folder(output.table),
        which=COHORT.which_flag,
    shell:
        "saccade evaluate {params.results:q} --slides {input.sheet:q} --out {params.results:q}"
        " {params.which} 2> {log:q}"
