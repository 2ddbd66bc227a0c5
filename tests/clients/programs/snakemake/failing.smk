rule fail:
    output:
        "never.txt",
    log:
        "fail.log",
    shell:
        "echo 'in vain' > {log}; cat {log} >&2; exit 3"
