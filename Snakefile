# Many slides: each rule calls one command of `saccade` for one slide.
#
#     snakemake --cores 2 --configfile config/config.yaml
#
# The rules live in the package, so that `saccade demo` runs the same ones.


include: "pipeline/rules/saccade.smk"


localrules:
    cohort,


# Snakemake takes no target from a file that is included.
rule cohort:
    input:
        rules.all.input,
