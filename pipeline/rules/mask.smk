rule mask:
    """One slide: what the encoder makes stronger within the tiles that it reads."""
    input:
        slide=lambda wildcards: COHORT.files(wildcards.slide),
        pyramid=f"{RESULTS}/{{slide}}/pyramid.zarr",
        model=lambda wildcards: COHORT.model(wildcards.slide),
    output:
        field=directory(f"{RESULTS}/{{slide}}/mask.zarr"),
        heatmap=f"{RESULTS}/{{slide}}/mask.ome.tif",
        geojson=f"{RESULTS}/{{slide}}/mask.geojson",
        picture=report(
            f"{RESULTS}/{{slide}}/mask.png",
            caption="../report/mask.rst",
            category="Mask",
            labels={"slide": "{slide}"},
        ),
        record=f"{RESULTS}/{{slide}}/mask.record.json",
    log:
        f"{RESULTS}/logs/mask/{{slide}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/mask/{{slide}}.tsv"
    threads: COSTS["mask"].threads
    resources:
        mem_mb=COHORT.mem_mb("mask"),
        runtime=COHORT.runtime("mask"),
        gpu=COHORT.gpu,
    params:
        slide=lambda wildcards: COHORT.path(wildcards.slide),
        out=lambda wildcards, output: COHORT.folder(output.record),
        mpp=lambda wildcards: COHORT.mpp_flag(wildcards.slide),
        tiles=COHORT.mask_flag,
        device=config["device"],
    shell:
        "saccade mask {params.slide:q} --model {input.model:q} --out {params.out:q}"
        " --device {params.device} --workers {threads} {params.tiles} {params.mpp}"
        " 2> {log:q}"
