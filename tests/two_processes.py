"""A plugin of pytest: the tests run in two processes, which takes half of the time on two cores.

After all files are collected the process forks, so that nothing is imported twice. It is pytest's
own loop in both; one process, as ever, with --pdb, on one core, or where there is no fork.
"""
import collections
import json
import os
import signal
import sys
import tempfile
import time

import pytest
import torch


@pytest.hookimpl(wrapper=True, trylast=True)
def pytest_runtestloop(session):
    """Run the tests in this process and in a fork of it. Both go over all files, those with the
    most tests first, and run each that the other has not begun; the fork's reports come here."""
    plugins, option = session.config.pluginmanager, session.config.option
    sizes = collections.Counter(item.path for item in session.items)
    alone = option.collectonly or option.usepdb or option.basetemp or session.testsfailed
    if alone or len(sizes) < 2 or sys.platform != "linux" or os.cpu_count() < 2:
        return (yield)
    session.items.sort(key=lambda item: -sizes[item.path])
    torch.optim.SGD([torch.zeros(1)], lr=1.0).zero_grad()   # what torch imports late, once for both
    with tempfile.TemporaryDirectory() as folder:
        child = os.fork()
        if not child:
            status = 1
            try:
                plugins.register(Fork(session.config, folder))
                yield
                status = 0
            except session.Failed:   # -x: the report has been told
                status = 0
            finally:
                os._exit(status)
        here = Here(session.config, folder)
        plugins.register(here)
        try:
            result = yield
            status = here.wait_for(child)
        except BaseException:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            raise
        if status:
            session.shouldfail = f"the second process of the tests ended with status {status}"
        if session.shouldfail:
            raise session.Failed(session.shouldfail)
        return result


class Half:
    """What both processes have: a test of a file that the other has begun is gone by."""

    def __init__(self, config, folder):
        self.config, self.folder, self.mine = config, folder, {}
        self.reports = open(os.path.join(folder, "reports"), "a+", encoding="utf-8")
        self.reports.seek(0)

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_protocol(self, item, nextitem):
        if item.path not in self.mine:
            name = str(item.path).replace(os.sep, "|")
            try:
                os.mkdir(os.path.join(self.folder, name))
                self.mine[item.path] = True
            except FileExistsError:
                self.mine[item.path] = False
        if not self.mine[item.path]:
            item.session._setupstate.teardown_exact(nextitem)
            return True


class Fork(Half):
    """The fork: silent, and each report is a line of a file."""

    def __init__(self, config, folder):
        super().__init__(config, folder)
        config.pluginmanager.unregister(name="terminalreporter")
        capture = config.pluginmanager.getplugin("capturemanager")   # into files of its own
        capture.stop_global_capturing()
        capture.start_global_capturing()
        capture.suspend_global_capture()
        self.parent = os.getppid()

    def pytest_runtest_logreport(self, report):
        if os.getppid() != self.parent:   # nobody listens any more
            os._exit(1)
        data = self.config.hook.pytest_report_to_serializable(config=self.config, report=report)
        self.reports.write(json.dumps(data) + "\n")
        self.reports.flush()


class Here(Half):
    """The process that was started: after each of its tests it tells what the fork has told."""

    def pytest_runtest_logfinish(self):
        at, hook = self.reports.tell(), self.config.hook
        while (line := self.reports.readline()).endswith("\n"):
            report = hook.pytest_report_from_serializable(config=self.config, data=json.loads(line))
            hook.pytest_runtest_logreport(report=report)
            at = self.reports.tell()
        self.reports.seek(at)   # half a line is read again

    def wait_for(self, child):
        """The exit status of the fork, once it has ended; after its last report."""
        ended = 0
        while not ended:
            time.sleep(0.02)
            ended, status = os.waitpid(child, os.WNOHANG)
            self.pytest_runtest_logfinish()
        return os.waitstatus_to_exitcode(status)
