"""Training jobs that run: what the service's control plane does with each."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any

from moto.core.models import DEFAULT_ACCOUNT_ID
from moto.core.utils import utcnow
from moto.logs.models import logs_backends
from moto.sagemaker.models import FakeTrainingJob

from tests.servers.training_jobs import TrainingJobs

from .fate import Fate, ordered
from .log_writer import LogWriter
from .orders import END, STOP, Line, Order
from .settings import Settings
from .workers import Workers

# https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_StoppingCondition.html
_DEFAULT_MAX_RUN_S = 86400
_END_TIMEOUT_S = 10.0
_INTERNAL_ERROR = Fate(failure="internal").failure_reason
_SHOWN = {"Downloading", "Training", "Interrupted", "Uploading"}
Admit = Callable[[dict[str, Any], str], None]
Tell = Callable[[str], None]


@dataclass
class _Life:
    """One job that has not ended."""

    name: str
    region: str
    request: dict[str, Any]
    fate: Fate
    log: LogWriter
    thread: threading.Thread = field(default_factory=threading.Thread)
    line: Line | None = None
    pid: int = 0
    stopped: threading.Event = field(default_factory=threading.Event)
    forgotten: bool = False


class RunningJobs(TrainingJobs):
    """The jobs of one emulator.

    Args:
        settings: How jobs run.
        admit: Refuses requests, with one of moto's exceptions.
        tell: Called with each step of each job.
    """

    def __init__(self, settings: Settings, admit: Admit, tell: Tell) -> None:
        self.settings = settings
        self._admit = admit
        self._tell = tell
        self._lives: dict[str, _Life] = {}
        self._workers: Workers | None = None
        self.notes: dict[str, list[str]] = {}
        super().__init__()

    def open(self, workers: Workers) -> None:
        """From now on jobs can run."""
        self._workers = workers

    def forget(self) -> None:
        """Ends every job, and drops it."""
        with self.lock:
            lives = list(self._lives.values())
            for life in lives:
                life.forgotten = True
                life.stopped.set()
                if life.line:
                    life.line.say(END)
        self._wait_for_the_end(lives)
        super().forget()
        self._lives.clear()
        self.notes.clear()

    def _wait_for_the_end(self, lives: list[_Life]) -> None:
        deadline = time.monotonic() + _END_TIMEOUT_S
        for life in lives:
            life.thread.join(max(0.0, deadline - time.monotonic()))
        deaf = [life.pid for life in lives if life.thread.is_alive() and life.pid]
        for pid in deaf:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if deaf and self._workers:
            self._workers.clear()

    def names(self) -> list[str]:
        """All jobs."""
        with self.lock:
            return list(self._jobs)

    def admit(self, request: dict[str, Any], region: str) -> None:
        self._admit(request, region)

    def in_use(self, instance_type: str) -> int:
        """How many instances of a type the jobs have that have not ended."""
        with self.lock:
            return sum(instances(life.request).get(instance_type, 0) for life in self._lives.values())

    def fate_of(self, request: dict[str, Any]) -> Fate:
        """What will befall a job. Raises ValueError when its tags make no sense."""
        upcoming = self.settings.next_fates
        return ordered(request.get("Tags", ()), upcoming[0] if upcoming else self.settings.fate)

    def adopt(self, job: FakeTrainingJob, request: dict[str, Any]) -> None:
        super().adopt(job, request)
        name, region = job.training_job_name, job.arn.split(":")[3]
        fate = self.fate_of(request)
        del self.settings.next_fates[:1]
        log = LogWriter(logs_backends[DEFAULT_ACCOUNT_ID][region], name, fate.log_delay_s)
        life = _Life(name, region, request, fate, log)
        life.thread = threading.Thread(target=self._live, args=(life,), name=name, daemon=True)
        self.notes[name] = []
        with self.lock:
            self._lives[name] = life
        self._tell(f"{name}  Starting")
        life.thread.start()

    def stop(self, name: str) -> None:
        """Stopping now; Stopped when the programs have ended."""
        with self.lock:
            self.begin_stopping(name, utcnow())
            life = self._lives[name]
            again = life.stopped.is_set()
            life.stopped.set()
            if life.line and not again:
                life.line.say(STOP)

    def _live(self, life: _Life) -> None:
        """All that happens to a job after it was created."""
        if self._waits_for_instances(life):
            self._carry_out(life)
        life.log.close()

    def _waits_for_instances(self, life: _Life) -> bool:
        """Whether a job gets its instances in the end."""
        fate = life.fate
        max_wait_s = life.request["StoppingCondition"].get("MaxWaitTimeInSeconds")
        wait_s = None if fate.stuck else fate.start_delay_s
        too_long = max_wait_s is not None and (wait_s is None or wait_s > max_wait_s)
        if life.stopped.wait(max_wait_s if too_long else wait_s):
            self._end(life, "Stopped")
        elif too_long:
            with self.lock:
                if not life.forgotten:
                    self.begin_stopping(life.name, utcnow())
            self._end(life, "Stopped", secondary="MaxWaitTimeExceeded")
        elif fate.failure:
            self._end(life, "Failed", failure_reason=fate.failure_reason)
        else:
            return True
        return False

    def _carry_out(self, life: _Life) -> None:
        with self.lock:
            if self._workers and not life.stopped.is_set():
                life.line = self._workers.start(self._order(life))
        if life.line is None:
            self._end(life, "Stopped")
            return
        try:
            self._follow(life, life.line)
        finally:
            life.line.close()

    def _order(self, life: _Life) -> Order:
        condition = {"MaxRuntimeInSeconds": _DEFAULT_MAX_RUN_S, **life.request["StoppingCondition"]}
        image = life.request["AlgorithmSpecification"].get("TrainingImage", "")
        spot = life.request.get("EnableManagedSpotTraining", False)
        return Order(
            request={"InputDataConfig": [], **life.request, "StoppingCondition": condition},
            region=life.region,
            code=self.settings.code_for(image),
            place=self.settings.place,
            python=self.settings.python,
            stop_grace_s=self.settings.stop_grace_s,
            interrupt_after_s=life.fate.interrupt_after_s if spot else (),
        )

    def _follow(self, life: _Life, line: Line) -> None:
        result: dict[str, Any] = {}
        for message in line.hear():
            if life.forgotten:
                continue
            if "log" in message:
                life.log.write(message["host"], message["at"], message["log"])
            elif "phase" in message:
                self._enter(life, message["phase"], message["at"])
            elif "result" in message:
                result = message["result"]
            elif "note" in message:
                self.notes[life.name].append(message["note"])
            else:
                life.pid = message["pid"]
        if result:
            self._end(
                life,
                result["status"],
                secondary=result["secondary_status"],
                failure_reason=result["failure_reason"],
                metrics=result["metrics"],
                billable_seconds=result["billable_seconds"],
                model=result["artifacts"].get("model", ""),
            )
        else:
            self._end(life, "Failed", failure_reason=_INTERNAL_ERROR)

    def _enter(self, life: _Life, phase: str, at: float) -> None:
        """A rehearsal's phase as the service shows it; what ends the job comes with the result."""
        moment = datetime.fromtimestamp(at, timezone.utc).replace(tzinfo=None)
        with self.lock:
            if life.forgotten:
                return
            secondary = self.job(life.name).secondary_status
            if phase == "Training":
                life.log.begin_attempt(at)
            if phase == "Stopping":
                self.begin_stopping(life.name, moment)
            elif phase in _SHOWN or (phase == "Starting" and secondary == "Interrupted"):
                self.advance(life.name, phase, at=moment)
                self._tell(f"{life.name}  {phase}")

    def _end(self, life: _Life, status: str, **details: Any) -> None:
        with self.lock:
            if not life.forgotten:
                self.finish(life.name, status, **details)
                del self._lives[life.name]
                self._tell(f"{life.name}  {status}  {details.get('failure_reason', '')}".rstrip())


def instances(request: dict[str, Any]) -> dict[str, int]:
    """How many instances of each type a request asks for."""
    resources = request.get("ResourceConfig", {})
    counted: dict[str, int] = {}
    for group in resources.get("InstanceGroups") or [resources]:
        kind = group.get("InstanceType", "")
        counted[kind] = counted.get(kind, 0) + group.get("InstanceCount", 0)
    return counted
