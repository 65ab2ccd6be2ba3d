rule embed:
    """One slide: features of its tissue tiles, for models that learn from features."""
    input:
        slide=lambda wildcards: COHORT.files(wildcards.slide),
        pyramid=f"{RESULTS}/{{slide}}/pyramid.zarr",
        files=COHORT.embed_files,
    output:
        features=f"{RESULTS}/{{slide}}/embedding/features.h5",
        record=f"{RESULTS}/{{slide}}/embedding/features.record.json",
    log:
        f"{RESULTS}/logs/embed/{{slide}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/embed/{{slide}}.tsv"
    threads: COSTS["embed"].threads
    resources:
        mem_mb=COHORT.mem_mb("embed"),
        runtime=COHORT.runtime("embed"),
        gpu=COHORT.gpu,
    params:
        slide=lambda wildcards: COHORT.path(wildcards.slide),
        out=lambda wildcards, output: COHORT.folder(output.record),
        mpp=lambda wildcards: COHORT.mpp_flag(wildcards.slide),
        network=COHORT.embed_flags,
        device=config["device"],
    shell:
        "saccade embed {params.slide:q} --out {params.out:q} --pyramid {input.pyramid:q}"
        " {params.network} --device {params.device} --workers {threads}"
        " {params.mpp} 2> {log:q}"
