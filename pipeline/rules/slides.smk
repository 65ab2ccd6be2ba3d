rule pyramid:
    """Thumbnails and tissue mask of one slide."""
    input:
        lambda wildcards: COHORT.files(wildcards.slide),
    output:
        pyramid=directory(f"{RESULTS}/{{slide}}/pyramid.zarr"),
        done=touch(f"{RESULTS}/.done/pyramid/{{slide}}"),
    log:
        f"{RESULTS}/logs/pyramid/{{slide}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/pyramid/{{slide}}.tsv"
    threads: COSTS["pyramid"].threads
    resources:
        mem_mb=COHORT.mem_mb("pyramid"),
        runtime=COHORT.runtime("pyramid"),
    params:
        slide=lambda wildcards: COHORT.path(wildcards.slide),
        out=lambda wildcards, output: COHORT.folder(output.pyramid),
        mpp=lambda wildcards: COHORT.mpp_flag(wildcards.slide),
        finest=COHORT.run.pyramid.finest_mpp,
    shell:
        "saccade pyramid {params.slide:q} --out {params.out:q} --finest-mpp {params.finest}"
        " --workers {threads} {params.mpp} 2> {log:q}"


rule predict:
    """One slide: label, heatmap, and the tiles that were read."""
    input:
        slide=lambda wildcards: COHORT.files(wildcards.slide),
        pyramid=f"{RESULTS}/{{slide}}/pyramid.zarr",
        model=lambda wildcards: COHORT.model(wildcards.slide),
    output:
        record=f"{RESULTS}/{{slide}}/record.json",
        prediction=f"{RESULTS}/{{slide}}/prediction.json",
        tiles=f"{RESULTS}/{{slide}}/tiles.csv",
        geojson=f"{RESULTS}/{{slide}}/attention.geojson",
        heatmap=f"{RESULTS}/{{slide}}/attention.ome.tif",
        picture=report(
            f"{RESULTS}/{{slide}}/attention.png",
            caption="../report/attention.rst",
            category="Attention",
            labels={"slide": "{slide}"},
        ),
        features=f"{RESULTS}/{{slide}}/features.h5",
    log:
        f"{RESULTS}/logs/predict/{{slide}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/predict/{{slide}}.tsv"
    threads: COSTS["predict"].threads
    resources:
        mem_mb=COHORT.mem_mb("predict"),
        runtime=COHORT.runtime("predict"),
        gpu=COHORT.gpu,
    params:
        slide=lambda wildcards: COHORT.path(wildcards.slide),
        out=lambda wildcards, output: COHORT.folder(output.record),
        mpp=lambda wildcards: COHORT.mpp_flag(wildcards.slide),
        device=config["device"],
        seed=config["seed"],
    shell:
        "saccade predict {params.slide:q} --model {input.model:q} --out {params.out:q}"
        " --device {params.device} --seed {params.seed} --workers {threads}"
        " {params.mpp} 2> {log:q}"


rule export:
    """One slide's results as QuPath opens them."""
    input:
        record=f"{RESULTS}/{{slide}}/record.json",
        geojson=f"{RESULTS}/{{slide}}/attention.geojson",
        heatmap=f"{RESULTS}/{{slide}}/attention.ome.tif",
    output:
        f"{RESULTS}/{{slide}}/qupath/attention.geojson",
        f"{RESULTS}/{{slide}}/qupath/attention.ome.tif",
        f"{RESULTS}/{{slide}}/qupath/open_in_qupath.groovy",
    log:
        f"{RESULTS}/logs/export/{{slide}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/export/{{slide}}.tsv"
    threads: COSTS["export"].threads
    resources:
        mem_mb=COHORT.mem_mb("export"),
        runtime=COHORT.runtime("export"),
    params:
        folder=lambda wildcards, input: COHORT.folder(input.record),
    shell:
        "saccade export {params.folder:q} --to qupath 2> {log:q}"
