"""cli: what scripts and methods need at their edges. No idea is in here; read it last.

    flags.py      flags, one-line errors, devices, what a resumed run keeps
    methods.py    knobs, and the part of a method that is not the algorithm
    runs.py       Ctrl-C, safe writing, the log line and its CSV
    tables.py     tables, charts, problems token by token
"""
from cli.flags import (MAY_DIFFER, WIDTH, CommandError, Parser, add_device_flags, add_run_flags,
                       add_speed_flags, add_task_flags, arguments, check_alike, check_context,
                       command, count, did_you_mean, families, flag, fold, keep_freed_memory,
                       natural, nonnegative, number, parse, positive, resumed, script, set_device,
                       share)
from cli.methods import Method, add_knobs, knob, knobs
from cli.runs import (Log, check_writable, diverged, duration, interrupted, quantity,
                      stop_signals)
from cli.tables import (analysis_tables, chart, colour, complete_prompt, mark_wrong, mass_chart,
                        names_of, percent, probability, record_table, shorten, show_k,
                        show_problems, status, step_table, table)
