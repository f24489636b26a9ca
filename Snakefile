"""From nothing to figures: tasks, offline data, offline phase, self-supervised rounds, report."""


include: "pipeline/common.smk"


rule all:
    input:
        "<results>/report.html",


rule tasks:
    output:
        tasks="<results>/{env}/tasks.json",
        manifest="<results>/{env}/tasks.manifest.json",
    log:
        "<logs>/{env}/tasks.log",
    benchmark:
        "<benchmarks>/{env}/tasks.tsv"
    conda:
        "config/conda.yaml"
    threads: 1
    resources:
        mem_mb=1000,
    params:
        **plan.params("tasks"),
    shell:
        "python -m {params.module} --config {params.cfg:q} {params.job}"
        " --out {output.tasks:q} > {log:q} 2>&1"


rule collect:
    input:
        tasks="<results>/{env}/tasks.json",
    output:
        transitions=directory("<results>/{env}/collect/transitions.zarr"),
        metrics="<results>/{env}/collect/metrics.csv",
        manifest="<results>/{env}/collect/manifest.json",
    log:
        "<logs>/{env}/collect.log",
    benchmark:
        "<benchmarks>/{env}/collect.tsv"
    conda:
        "config/conda.yaml"
    threads: 1
    resources:
        mem_mb=4000,
        gpu=plan.gpu("collect"),
    params:
        **plan.params("collect"),
    shell:
        "python -m {params.module} --config {params.cfg:q} {params.job}"
        " --tasks {input.tasks:q} --out {output.transitions:q} > {log:q} 2>&1"


rule meta_train:
    input:
        tasks="<results>/{env}/tasks.json",
        transitions="<results>/{env}/collect/transitions.zarr",
    output:
        checkpoint="<results>/<run>/meta_train/checkpoint.safetensors",
        metrics="<results>/<run>/meta_train/metrics.csv",
        manifest="<results>/<run>/meta_train/manifest.json",
    log:
        "<logs>/<run>/meta_train.log",
    benchmark:
        "<benchmarks>/<run>/meta_train.tsv"
    conda:
        "config/conda.yaml"
    threads: 1
    resources:
        mem_mb=4000,
        gpu=plan.gpu("meta_train"),
    params:
        **plan.params("meta_train"),
    shell:
        "python -m {params.module} --config {params.cfg:q} {params.job}"
        " --tasks {input.tasks:q} --transitions {input.transitions:q}"
        " --out {output.checkpoint:q} > {log:q} 2>&1"


rule rollout:
    input:
        tasks="<results>/{env}/tasks.json",
        transitions="<results>/{env}/collect/transitions.zarr",
        checkpoint=plan.checkpoint("before"),
        rollouts=plan.stores("rollout", "before"),
        rewards=plan.stores("relabel", "before"),
    output:
        transitions=directory("<results>/<run>/round{round}/rollout/transitions.zarr"),
        manifest="<results>/<run>/round{round}/rollout/manifest.json",
    log:
        "<logs>/<run>/round{round}/rollout.log",
    benchmark:
        "<benchmarks>/<run>/round{round}/rollout.tsv"
    conda:
        "config/conda.yaml"
    threads: 1
    resources:
        mem_mb=2000,
    params:
        **plan.params("rollout"),
    shell:
        "python -m {params.module} --config {params.cfg:q} {params.job}"
        " --tasks {input.tasks:q} --transitions {input.transitions:q} --checkpoint {input.checkpoint:q}"
        " --rollouts {input.rollouts:q} --rewards {input.rewards:q} --out {output.transitions:q} > {log:q} 2>&1"


rule relabel:
    input:
        tasks="<results>/{env}/tasks.json",
        transitions="<results>/{env}/collect/transitions.zarr",
        checkpoint=plan.checkpoint("offline"),
        rollout="<results>/<run>/round{round}/rollout/transitions.zarr",
    output:
        rewards=directory("<results>/<run>/round{round}/relabel/rewards.zarr"),
        manifest="<results>/<run>/round{round}/relabel/manifest.json",
    log:
        "<logs>/<run>/round{round}/relabel.log",
    benchmark:
        "<benchmarks>/<run>/round{round}/relabel.tsv"
    conda:
        "config/conda.yaml"
    threads: 1
    resources:
        mem_mb=2000,
    params:
        **plan.params("relabel"),
    shell:
        "python -m {params.module} --config {params.cfg:q} {params.job}"
        " --tasks {input.tasks:q} --transitions {input.transitions:q} --checkpoint {input.checkpoint:q}"
        " --rollout {input.rollout:q} --out {output.rewards:q} > {log:q} 2>&1"


rule finetune:
    input:
        tasks="<results>/{env}/tasks.json",
        transitions="<results>/{env}/collect/transitions.zarr",
        checkpoint=plan.checkpoint("before"),
        rollouts=plan.stores("rollout"),
        rewards=plan.stores("relabel"),
    output:
        checkpoint="<results>/<run>/round{round}/finetune/checkpoint.safetensors",
        metrics="<results>/<run>/round{round}/finetune/metrics.csv",
        manifest="<results>/<run>/round{round}/finetune/manifest.json",
    log:
        "<logs>/<run>/round{round}/finetune.log",
    benchmark:
        "<benchmarks>/<run>/round{round}/finetune.tsv"
    conda:
        "config/conda.yaml"
    threads: 1
    resources:
        mem_mb=4000,
        gpu=plan.gpu("finetune"),
    params:
        **plan.params("finetune"),
    shell:
        "python -m {params.module} --config {params.cfg:q} {params.job}"
        " --tasks {input.tasks:q} --transitions {input.transitions:q} --checkpoint {input.checkpoint:q}"
        " --rollouts {input.rollouts:q} --rewards {input.rewards:q} --out {output.checkpoint:q} > {log:q} 2>&1"


rule evaluate:
    input:
        tasks="<results>/{env}/tasks.json",
        transitions="<results>/{env}/collect/transitions.zarr",
        checkpoint=plan.checkpoint("after"),
    output:
        returns=directory("<results>/<run>/round{round}/evaluate/returns.zarr"),
        manifest="<results>/<run>/round{round}/evaluate/manifest.json",
    log:
        "<logs>/<run>/round{round}/evaluate.log",
    benchmark:
        "<benchmarks>/<run>/round{round}/evaluate.tsv"
    conda:
        "config/conda.yaml"
    threads: 1
    resources:
        mem_mb=2000,
    params:
        **plan.params("evaluate"),
    shell:
        "python -m {params.module} --config {params.cfg:q} {params.job}"
        " --tasks {input.tasks:q} --transitions {input.transitions:q} --checkpoint {input.checkpoint:q}"
        " --out {output.returns:q} > {log:q} 2>&1"


include: "pipeline/report.smk"
