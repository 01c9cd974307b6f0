"""What leads back to a job: commands, and the pages of AWS's console. Pure."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Sequence
from urllib.parse import quote

# https://docs.aws.amazon.com/sagemaker/latest/dg/logging-cloudwatch.html
LOG_GROUP = "/aws/sagemaker/TrainingJobs"
# https://docs.aws.amazon.com/general/latest/gr/rande.html: the partitions have consoles of their own.
_CONSOLES = {"cn-": "console.amazonaws.cn", "us-gov-": "console.amazonaws-us-gov.com"}
_CONSOLE = "console.aws.amazon.com"


def coming_back(program: str, jobs: Iterable[str], options: Sequence[str] = ()) -> str:
    """How to look at jobs, follow, await and stop them: commands that can be copied.

    Args:
        program: How this program was called.
        jobs: References to the jobs, such as their experiments' URIs.
        options: What the commands have to be told besides, word by word.
    """
    named = list(jobs)
    words = shlex.join([*named, *options])
    verbs = {"look": "status", "log": "logs -f", "wait": "wait", "stop": "stop"}
    return "\n".join(
        f"{name}: {program} {command} {words}"
        for name, command in verbs.items()
        if name != "log" or len(named) == 1
    )


def console(region: str) -> str:
    """Where AWS's console on a region is: a URL without a slash at its end."""
    host = next((host for prefix, host in _CONSOLES.items() if region.startswith(prefix)), _CONSOLE)
    return f"https://{region}.{host}"


def running_again(program: str, experiment: str, options: Sequence[str] = ()) -> str:
    """The command that runs an experiment again; the arguments are as those of `coming_back`."""
    return f"{program} rerun {shlex.join([experiment, *options])}"


def console_links(job_name: str, region: str) -> dict[str, str]:
    """The pages of AWS's console on a job and on its log, by their names."""
    base = console(region)
    # The console takes the fragment apart with `$` in the place of `%`, and what is in it is encoded twice.
    group = quote(quote(LOG_GROUP, safe=""), safe="").replace("%", "$")
    streams = quote(f"?logStreamNameFilter={job_name}/", safe="").replace("%", "$")
    return {
        "job": f"{base}/sagemaker/home?region={region}#/jobs/{job_name}",
        "log": f"{base}/cloudwatch/home?region={region}#logsV2:log-groups/log-group/{group}{streams}",
    }
