"""cli: what scripts and methods need at their edges. No idea is in here; read it last.

    flags.py      flags, one-line errors, devices, what a resumed run keeps
    memory.py     how much there is, and running out of it
    methods.py    knobs, and the part of a method that is not the algorithm
    restore.py    what a resumed run's checkpoint must hold
    outputs.py    what may be written, and by whom
    ranks.py      one run on many processes
    runs.py       Ctrl-C, the log line and its CSV
    early.py      Ctrl-C while torch is being imported
    tables.py     tables, charts, problems token by token
"""
from cli import early, ranks  # early before anything that takes long to import
from cli.flags import (MAY_DIFFER, WIDTH, CommandError, Parser, add_device_flags,
                       add_overwrite_flag, add_run_flags, add_size_flags, add_speed_flags,
                       add_task_flags, arguments, check_context, check_memory, check_same_model,
                       command, count, did_you_mean, families, flag, fold, greedy_too,
                       learning_rate, natural, nonnegative, number, parse, positive, resumed,
                       script, seed, set_device, share, size, temperature)
from cli.memory import keep_freed_memory
from cli.methods import Method, add_knobs, knob, knobs
from cli.outputs import (check_place, check_writable, kept_path, lock, log_path, own_results,
                         table_text, write_text)
from cli.restore import restore
from cli.runs import Log, check_finite, duration, quantity, save, stop_signals
from cli.tables import (analysis_tables, chart, colour, complete_prompt, mark_wrong, mass_chart,
                        names_of, percent, probability, record_table, shorten, show_k,
                        show_problems, status, step_table, table, variety_table)
