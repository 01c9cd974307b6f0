"""What IAM says that somebody may do, without doing it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import field
from typing import Any

from sagemaker_launcher.aws import asked
from sagemaker_launcher.errors import ExitCode
from sagemaker_launcher.findings import Finding
from sagemaker_launcher.frozen import frozen
from sagemaker_launcher.preflight.check import failed
from sagemaker_launcher.preflight.world import World

_ALLOWED = "allowed"
_IMPLICIT = "implicitDeny"


@frozen
class Wish:
    """Something to be allowed.

    Attributes:
        what: In words, to complete "may" and "may not".
        actions: Such as `s3:GetObject`.
        resources: ARNs; each of them for each action.
        context: Condition keys with their values.
        advice: What to say when it is not allowed, besides the missing permission.
        elsewhere: What can allow it without IAM's knowledge, so that only a denial is certain; empty when nothing can.
    """

    what: str
    actions: tuple[str, ...]
    resources: tuple[str, ...]
    context: Mapping[str, str] = field(default_factory=dict)
    advice: str = ""
    elsewhere: str = ""


@frozen
class _Decision:
    action: str
    resource: str
    word: str
    certain: bool


def may(world: World, name: str, principal: str, who: str, wish: Wish) -> Iterator[Finding]:
    """The findings of a check on what somebody may do.

    Args:
        world: Whom to ask.
        name: The check.
        principal: The ARN of a user or role.
        who: The same in words.
        wish: What is to be allowed.

    Raises:
        AccessDeniedError: We may not ask; and the other errors of `aws_errors`.
    """
    decisions = tuple(_decisions(world, principal, wish))
    refused = [one for one in decisions if one.word != _ALLOWED]
    if not decisions:
        yield Finding(name, "unknown", f"IAM does not say whether {who} may {wish.what}")
        return
    if not refused:
        yield Finding(name, "ok", f"{who} may {wish.what}")
        return
    shown = "; ".join(f"{one.action} on {one.resource}" for one in refused[:3])
    more = f" and {len(refused) - 3} more" if len(refused) > 3 else ""  # noqa: PLR2004 - as many as are shown
    if all(one.word == _IMPLICIT and not one.certain for one in refused):
        yield Finding(name, "unknown", f"whether {who} may {wish.what} depends on conditions: {shown}{more}")
        return
    denied = any(one.word != _IMPLICIT for one in refused)
    if wish.elsewhere and not denied:
        message = f"whether {who} may {wish.what} is up to {wish.elsewhere}: IAM does not allow {shown}{more}"
        yield Finding(name, "unknown", message)
        return
    fix = f"{'remove the policy that denies' if denied else 'allow'} {shown}{more}"
    if not denied and any(one.action.startswith("s3:") for one in refused):
        fix += f"; if a bucket policy allows it, IAM does not see that: --skip-check {name}"
    yield failed(
        name,
        f"{who} may not {wish.what}",
        "\n".join(filter(None, [fix, wish.advice])),
        ExitCode.ACCESS_DENIED,
        "access_denied",
    )


def _decisions(world: World, principal: str, wish: Wish) -> Iterator[_Decision]:
    """https://docs.aws.amazon.com/IAM/latest/APIReference/API_SimulatePrincipalPolicy.html."""
    entries = [
        {"ContextKeyName": key, "ContextKeyValues": [value], "ContextKeyType": "string"}
        for key, value in wish.context.items()
    ]
    page: dict[str, str] = {}
    results: list[dict[str, Any]] = []
    while True:
        answer = asked(
            world.client("iam").simulate_principal_policy,
            "EvaluationResults",
            f"ask IAM what {principal} may do",
            PolicySourceArn=principal,
            ActionNames=list(wish.actions),
            ResourceArns=list(wish.resources),
            ContextEntries=entries,
            **page,
        )
        results += answer["EvaluationResults"]
        if not answer.get("IsTruncated"):
            break
        page = {"Marker": answer["Marker"]}
    for result in results:
        parts = result.get("ResourceSpecificResults") or [
            {
                "EvalResourceName": result.get("EvalResourceName", "*"),
                "EvalResourceDecision": result["EvalDecision"],
                "MissingContextValues": result.get("MissingContextValues", []),
            }
        ]
        for part in parts:
            yield _Decision(
                result["EvalActionName"],
                part["EvalResourceName"],
                part["EvalResourceDecision"],
                not part.get("MissingContextValues"),
            )
