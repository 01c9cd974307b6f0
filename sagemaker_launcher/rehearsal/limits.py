"""What no rehearsal can have, however well it does: said before every one that would need it. Pure."""

from __future__ import annotations

from sagemaker_launcher.job import Job


def not_reproduced(job: Job, target: str, *, interrupted: bool = False, gpus: bool = False) -> list[str]:
    """What a job uses of the service that this machine cannot give it.

    Args:
        job: The job.
        target: `docker` or `process`.
        interrupted: The user has asked for spot interruptions.
        gpus: The programs get this machine's GPUs.
    """
    plain = target == "process"
    several = len(job.machines.groups) > 1 or job.machines.instance_count > 1
    uses = {
        "the image": plain,
        "CONTAINER_ENTRY_POINT (SOURCE.ENTRY_POINT is started instead)": plain and job.image.entry_point,
        "CONTAINER_ARGUMENTS": plain and job.image.arguments,
        "network isolation": plain and job.network.isolated,
        "the GPUs": not gpus and any(has_gpus(name) for name in job.machines.instance_types),
        "spot interruptions (--interrupt-after SECONDS makes them)": job.limits.spot and not interrupted,
        "the service's retries": job.limits.max_retry_attempts,
        "the VPC": job.network.subnets,
        "encryption between the hosts": several and job.network.encrypt_between_containers,
        "encryption keys": job.output_kms_key or job.machines.volume_kms_key,
        "the warm pool": job.machines.keep_alive_s,
        "the training plan": job.machines.training_plan,
        "the UltraServer": job.machines.placements,
        "the debugger": job.debugger_hook,
        "the profiler": job.profiler,
        "TensorBoard upload": job.tensorboard,
        "remote debugging": job.remote_debug,
        "the health check": job.infra_check,
    }
    return [name for name, used in uses.items() if used]


def has_gpus(instance_type: str) -> bool:
    """Whether an instance type has NVIDIA GPUs: its family begins with g or p. https://aws.amazon.com/sagemaker/pricing/."""
    return instance_type.removeprefix("ml.").startswith(("g", "p"))
