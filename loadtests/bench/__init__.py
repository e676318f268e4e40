"""The side-by-side benchmark: the same jobs for Parallax and its peers, in turn, in one run.

`peers` fetches the binaries, `systems` configures and starts each from `templates`, `running` watches over
its processes, `verify` proves that it does the job before anything is measured, `load` drives wrk, `cpu` reads
what the kernel charged to each process, `measure` puts one measurement together, `figures` turns rounds into
medians, ratios and verdicts, `show` prints.
"""
