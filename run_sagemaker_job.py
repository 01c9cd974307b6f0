"""Launch, rehearse and rerun SageMaker training jobs: `python run_sagemaker_job.py --help`."""

from __future__ import annotations

import sys

_LIBRARIES = {"boto3", "botocore", "click", "rich", "yacs", "yaml"}
_INTERRUPTED = 130
_ENVIRONMENT = 15  # errors.ExitCode.ENVIRONMENT, before anything can be imported


def _main() -> int:
    if sys.version_info < (3, 10):  # noqa: UP036 - said in words, since nothing stops an older Python from starting
        return _complain("this needs Python 3.10 or later")
    try:
        from sagemaker_launcher import cli  # noqa: PLC0415 - may fail for want of a library

        return cli.main()
    except ModuleNotFoundError as error:
        if error.name not in _LIBRARIES:
            raise
        return _complain(f"the package {error.name} is not installed")
    except KeyboardInterrupt:  # so early that nobody else has heard it
        return _INTERRUPTED


def _complain(problem: str) -> int:
    sys.stderr.write(f"error: {problem}, and this is Python {sys.version.split()[0]}, {sys.executable}\n")
    sys.stderr.write(
        "hint: `make demo` makes .venv with all that is needed; then: source .venv/bin/activate\n"
    )
    return _ENVIRONMENT


if __name__ == "__main__":
    sys.exit(_main())
