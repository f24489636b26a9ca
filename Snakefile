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
    resources:
        mem_mb=1000,
    params:
        **plan.params("tasks"),
    shell:
        "python -m {params.module} --config {params.cfg:q} {params.job} --out {output.tasks:q} > {log:q} 2>&1"


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
    resources:
        mem_mb=4000,
        gpu=plan.gpu("collect"),
    params:
        **plan.params("collect"),
    shell:
        "python -m {params.module} --config {params.cfg:q} {params.job} --tasks {input.tasks:q} --out {output.transitions:q} > {log:q} 2>&1"


for group in plan.groups("meta_train"):

    rule:
        name:
            group.rule
        input:
            tasks="<results>/{env}/tasks.json",
            transitions=plan.offline_data,
            expert=plan.expert,
        output:
            checkpoint=group.paths("meta_train/checkpoint.safetensors"),
            metrics=group.paths("meta_train/metrics.csv"),
            manifest=group.paths("meta_train/manifest.json"),
        log:
            f"<logs>/{group.run}/meta_train.log",
        benchmark:
            f"<benchmarks>/{group.run}/meta_train.tsv"
        conda:
            "config/conda.yaml"
        resources:
            mem_mb=4000,
            gpu=plan.gpu("meta_train"),
        params:
            **plan.params("meta_train", group),
        shell:
            "python -m {params.module} --config {params.cfg:q} {params.job} --tasks {input.tasks:q} --transitions {input.transitions:q} --out {output.checkpoint:q} > {log:q} 2>&1"


for group in plan.groups("rollout"):

    rule:
        name:
            group.rule
        input:
            tasks="<results>/{env}/tasks.json",
            transitions="<results>/{env}/collect/transitions.zarr",
            checkpoint=plan.checkpoint("before", group),
            rollouts=plan.last_store("rollout", "before", group),
            rewards=plan.last_store("relabel", "before", group),
            carried=plan.carried("before", group),
        output:
            transitions=directory(group.paths("round{round}/rollout/transitions.zarr")),
            manifest=group.paths("round{round}/rollout/manifest.json"),
        log:
            f"<logs>/{group.run}/round{{round}}/rollout.log",
        benchmark:
            f"<benchmarks>/{group.run}/round{{round}}/rollout.tsv"
        conda:
            "config/conda.yaml"
        resources:
            mem_mb=4000,
        params:
            **plan.params("rollout", group),
        shell:
            "python -m {params.module} --config {params.cfg:q} {params.job} --tasks {input.tasks:q} --transitions {input.transitions:q} --checkpoint {input.checkpoint:q}"
            " --rollouts {input.rollouts:q} --rewards {input.rewards:q} --out {output.transitions:q} > {log:q} 2>&1"


for group in plan.groups("relabel"):

    rule:
        name:
            group.rule
        input:
            tasks="<results>/{env}/tasks.json",
            transitions="<results>/{env}/collect/transitions.zarr",
            checkpoint=plan.checkpoint("offline", group),
            rollout=plan.last_store("rollout", "with", group),
            members=plan.members(group),
        output:
            rewards=directory(group.paths("round{round}/relabel/rewards.zarr")),
            manifest=group.paths("round{round}/relabel/manifest.json"),
        log:
            f"<logs>/{group.run}/round{{round}}/relabel.log",
        benchmark:
            f"<benchmarks>/{group.run}/round{{round}}/relabel.tsv"
        conda:
            "config/conda.yaml"
        resources:
            mem_mb=4000,
        params:
            **plan.params("relabel", group),
            members=plan.member_option,
        shell:
            "python -m {params.module} --config {params.cfg:q} {params.job}"
            " --tasks {input.tasks:q} --transitions {input.transitions:q} --checkpoint {input.checkpoint:q} --rollout {input.rollout:q}"
            " {params.members} --out {output.rewards:q} > {log:q} 2>&1"


for group in plan.groups("finetune"):

    rule:
        name:
            group.rule
        input:
            tasks="<results>/{env}/tasks.json",
            transitions="<results>/{env}/collect/transitions.zarr",
            checkpoint=plan.checkpoint("before", group),
            rollouts=plan.last_store("rollout", "with", group),
            rewards=plan.last_store("relabel", "with", group),
            carried=plan.carried("with", group),
        output:
            checkpoint=group.paths("round{round}/finetune/checkpoint.safetensors"),
            metrics=group.paths("round{round}/finetune/metrics.csv"),
            manifest=group.paths("round{round}/finetune/manifest.json"),
        log:
            f"<logs>/{group.run}/round{{round}}/finetune.log",
        benchmark:
            f"<benchmarks>/{group.run}/round{{round}}/finetune.tsv"
        conda:
            "config/conda.yaml"
        resources:
            mem_mb=4000 * len(group.seeds),
            gpu=plan.gpu("finetune"),
        params:
            **plan.params("finetune", group),
        shell:
            "python -m {params.module} --config {params.cfg:q} {params.job} --tasks {input.tasks:q} --transitions {input.transitions:q} --checkpoint {input.checkpoint:q}"
            " --rollouts {input.rollouts:q} --rewards {input.rewards:q} --out {output.checkpoint:q} > {log:q} 2>&1"


for group in plan.groups("evaluate"):

    rule:
        name:
            group.rule
        input:
            tasks="<results>/{env}/tasks.json",
            transitions=plan.offline_data,
            checkpoint=plan.checkpoint("after", group),
        output:
            returns=directory(group.paths("round{round}/evaluate/returns.zarr")),
            manifest=group.paths("round{round}/evaluate/manifest.json"),
        log:
            f"<logs>/{group.run}/round{{round}}/evaluate.log",
        benchmark:
            f"<benchmarks>/{group.run}/round{{round}}/evaluate.tsv"
        conda:
            "config/conda.yaml"
        resources:
            mem_mb=4000,
        params:
            **plan.params("evaluate", group),
        shell:
            "python -m {params.module} --config {params.cfg:q} {params.job} --tasks {input.tasks:q} --transitions {input.transitions:q} --checkpoint {input.checkpoint:q} --out {output.returns:q} > {log:q} 2>&1"


include: "pipeline/experts.smk"
include: "pipeline/report.smk"
