rule evidence:
    """One slide: what a model over features says of it, where it looked and what it saw there."""
    input:
        slide=lambda wildcards: COHORT.files(wildcards.slide),
        features=f"{RESULTS}/{{slide}}/embedding/features.h5",
        model=config["evidence"],
    output:
        field=directory(f"{RESULTS}/{{slide}}/evidence.zarr"),
        layers=f"{RESULTS}/{{slide}}/evidence.ome.tif",
        picture=report(
            f"{RESULTS}/{{slide}}/evidence.png",
            caption="../report/evidence.rst",
            category="Evidence",
            labels={"slide": "{slide}"},
        ),
        judged=f"{RESULTS}/{{slide}}/evidence.json",
        record=f"{RESULTS}/{{slide}}/evidence.record.json",
    log:
        f"{RESULTS}/logs/evidence/{{slide}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/evidence/{{slide}}.tsv"
    threads: COSTS["evidence"].threads
    resources:
        mem_mb=COHORT.mem_mb("evidence"),
        runtime=COHORT.runtime("evidence"),
        gpu=COHORT.gpu,
    params:
        slide=lambda wildcards: COHORT.path(wildcards.slide),
        out=lambda wildcards, output: COHORT.folder(output.record),
        mpp=lambda wildcards: COHORT.mpp_flag(wildcards.slide),
        device=config["device"],
    shell:
        "saccade evidence {params.slide:q} --features {input.features:q} --model {input.model:q}"
        " --out {params.out:q} --device {params.device} {params.mpp} 2> {log:q}"
