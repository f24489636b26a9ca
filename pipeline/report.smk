"""What looks at the finished outputs: the report, and the check of every file."""


rule report:
    input:
        plan.report_inputs(),
    output:
        report="<results>/report.html",
        summary="<results>/summary.csv",
        comparison="<results>/comparison.csv",
        improvement="<results>/improvement.csv",
        costs="<results>/costs.csv",
        figures=directory("<results>/figures"),
        manifest="<results>/manifest.json",
    log:
        "<logs>/report.log",
    benchmark:
        "<benchmarks>/report.tsv"
    conda:
        "../config/conda.yaml"
    resources:
        mem_mb=2000,
    params:
        **plan.params("report"),
    shell:
        "python -m {params.module} --config {params.cfg:q}"
        ' --results "$(dirname {output.report:q})"'
        " --out {output.report:q} > {log:q} 2>&1"


rule study:
    input:
        plan.report_inputs(),
    output:
        study="<results>/study.csv",
        arms="<results>/study-arms.csv",
        manifest="<results>/study.manifest.json",
    log:
        "<logs>/study.log",
    benchmark:
        "<benchmarks>/study.tsv"
    conda:
        "../config/conda.yaml"
    resources:
        mem_mb=2000,
    params:
        **plan.params("study"),
    shell:
        "python -m {params.module} --config {params.cfg:q}"
        ' --results "$(dirname {output.study:q})"'
        " --out {output.study:q} > {log:q} 2>&1"


rule verify:
    log:
        "<logs>/verify.log",
    conda:
        "../config/conda.yaml"
    params:
        results=run.results,
    shell:
        "python -m pipeline.verify {params.results:q} 2>&1 | tee {log:q}"
