rule saliency:
    """One slide: what stands out, and the regions to look at first."""
    input:
        slide=lambda wildcards: COHORT.files(wildcards.slide),
        pyramid=f"{RESULTS}/{{slide}}/pyramid.zarr",
        model=config["saliency"],
    output:
        field=directory(f"{RESULTS}/{{slide}}/saliency.zarr"),
        heatmap=f"{RESULTS}/{{slide}}/saliency.ome.tif",
        geojson=f"{RESULTS}/{{slide}}/saliency.geojson",
        picture=report(
            f"{RESULTS}/{{slide}}/saliency.png",
            caption="../report/saliency.rst",
            category="Saliency",
            labels={"slide": "{slide}"},
        ),
        record=f"{RESULTS}/{{slide}}/saliency.record.json",
    log:
        f"{RESULTS}/logs/saliency/{{slide}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/saliency/{{slide}}.tsv"
    threads: COSTS["saliency"].threads
    resources:
        mem_mb=COHORT.mem_mb("saliency"),
        runtime=COHORT.runtime("saliency"),
        gpu=COHORT.gpu,
    params:
        slide=lambda wildcards: COHORT.path(wildcards.slide),
        out=lambda wildcards, output: COHORT.folder(output.record),
        mpp=lambda wildcards: COHORT.mpp_flag(wildcards.slide),
        device=config["device"],
    shell:
        "saccade saliency {params.slide:q} --model {input.model:q} --out {params.out:q}"
        " --device {params.device} --workers {threads} {params.mpp} 2> {log:q}"
