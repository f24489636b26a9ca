"""What methods need that learn from experts; runs only where a method says `needs: [experts]`."""


rule experts:
    input:
        tasks="<results>/{env}/tasks.json",
    output:
        checkpoint="<results>/{env}/experts/checkpoint.safetensors",
        metrics="<results>/{env}/experts/metrics.csv",
        manifest="<results>/{env}/experts/manifest.json",
    log:
        "<logs>/{env}/experts.log",
    benchmark:
        "<benchmarks>/{env}/experts.tsv"
    conda:
        "../config/conda.yaml"
    resources:
        mem_mb=4000,
        gpu=plan.gpu("experts"),
    params:
        **plan.params("experts"),
    shell:
        "python -m {params.module} --config {params.cfg:q} {params.job}"
        " --tasks {input.tasks:q} --out {output.checkpoint:q} > {log:q} 2>&1"


rule demonstrations:
    input:
        tasks="<results>/{env}/tasks.json",
        checkpoint="<results>/{env}/experts/checkpoint.safetensors",
    output:
        transitions=directory("<results>/{env}/demonstrations/transitions.zarr"),
        manifest="<results>/{env}/demonstrations/manifest.json",
    log:
        "<logs>/{env}/demonstrations.log",
    benchmark:
        "<benchmarks>/{env}/demonstrations.tsv"
    conda:
        "../config/conda.yaml"
    resources:
        mem_mb=4000,
    params:
        **plan.params("demonstrations"),
    shell:
        "python -m {params.module} --config {params.cfg:q} {params.job}"
        " --tasks {input.tasks:q} --checkpoint {input.checkpoint:q}"
        " --out {output.transitions:q} > {log:q} 2>&1"
