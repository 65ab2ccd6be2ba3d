rule detect:
    """One slide: objects of all its tissue, each counted once."""
    input:
        slide=lambda wildcards: COHORT.files(wildcards.slide),
        pyramid=f"{RESULTS}/{{slide}}/pyramid.zarr",
        model=config["detect"],
    output:
        objects=f"{RESULTS}/{{slide}}/detection_objects.h5",
        geojson=f"{RESULTS}/{{slide}}/detection.geojson",
        table=f"{RESULTS}/{{slide}}/detection.csv",
        picture=report(
            f"{RESULTS}/{{slide}}/detection.png",
            caption="../report/detection.rst",
            category="Detection",
            labels={"slide": "{slide}"},
        ),
        record=f"{RESULTS}/{{slide}}/detection.record.json",
    log:
        f"{RESULTS}/logs/detect/{{slide}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/detect/{{slide}}.tsv"
    threads: COSTS["detect"].threads
    resources:
        mem_mb=COHORT.mem_mb("detect"),
        runtime=COHORT.runtime("detect"),
        gpu=COHORT.gpu,
    params:
        slide=lambda wildcards: COHORT.path(wildcards.slide),
        out=lambda wildcards, output: COHORT.folder(output.record),
        mpp=lambda wildcards: COHORT.mpp_flag(wildcards.slide),
        device=config["device"],
    shell:
        "saccade detect {params.slide:q} --model {input.model:q} --out {params.out:q}"
        " --device {params.device} --workers {threads} {params.mpp} 2> {log:q}"
