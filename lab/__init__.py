"""lab/: what the scripts and the questions of the study share.

    jobs.py       what a question may ask to be run: a base, an arm of it, an evaluation
    runner.py     running jobs, several at once, resumable
    processes.py  where they run: on this machine, a process each
    cluster.py    ... or on the workers of a Dask cluster (study.py --scheduler)
    worker.py     what such a worker does
    records.py    their numbers, to a CSV and back
    judge.py      from numbers to one of four words
    draw.py       from numbers to pictures
    report.py     every question's verdicts and pictures as one page
    bench.py      how fast is it? `python -m lab.bench`
"""
