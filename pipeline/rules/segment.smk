rule segment:
    """One slide: what each place of it is, outlines and objects."""
    input:
        slide=lambda wildcards: COHORT.files(wildcards.slide),
        pyramid=f"{RESULTS}/{{slide}}/pyramid.zarr",
        model=config["segment"],
    output:
        field=directory(f"{RESULTS}/{{slide}}/segmentation.zarr"),
        heatmap=f"{RESULTS}/{{slide}}/segmentation.ome.tif",
        geojson=f"{RESULTS}/{{slide}}/segmentation.geojson",
        table=f"{RESULTS}/{{slide}}/segmentation.csv",
        picture=report(
            f"{RESULTS}/{{slide}}/segmentation.png",
            caption="../report/segmentation.rst",
            category="Segmentation",
            labels={"slide": "{slide}"},
        ),
        record=f"{RESULTS}/{{slide}}/segmentation.record.json",
    log:
        f"{RESULTS}/logs/segment/{{slide}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/segment/{{slide}}.tsv"
    threads: COSTS["segment"].threads
    resources:
        mem_mb=COHORT.mem_mb("segment"),
        runtime=COHORT.runtime("segment"),
        gpu=COHORT.gpu,
    params:
        slide=lambda wildcards: COHORT.path(wildcards.slide),
        out=lambda wildcards, output: COHORT.folder(output.record),
        mpp=lambda wildcards: COHORT.mpp_flag(wildcards.slide),
        device=config["device"],
    shell:
        "saccade segment {params.slide:q} --model {input.model:q} --out {params.out:q}"
        " --device {params.device} --workers {threads} {params.mpp} 2> {log:q}"
