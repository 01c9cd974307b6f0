"""The hosts of a job: their names, groups and channels, and what each is told of all."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from sagemaker_launcher.rehearsal.hosts import hosts_of, names, resource_config
from sagemaker_launcher.rehearsal.tree import channels_of, input_data_config
from sagemaker_launcher.request import Request
from tests.fidelity import reproduces

COUNTS = st.lists(st.integers(1, 30), min_size=1, max_size=4)


def one_kind(count: int) -> Request:
    return {"ResourceConfig": {"InstanceType": "ml.m5.large", "InstanceCount": count}}


def grouped(*counts: int) -> Request:
    groups = [
        {"InstanceType": f"ml.m5.{number}xlarge", "InstanceCount": count, "InstanceGroupName": f"g{number}"}
        for number, count in enumerate(counts)
    ]
    return {"ResourceConfig": {"InstanceGroups": groups}}


def test_hosts_are_counted_from_one() -> None:
    hosts = hosts_of(one_kind(3))
    assert [(host.name, host.number) for host in hosts] == [("algo-1", 1), ("algo-2", 2), ("algo-3", 3)]
    assert {(host.instance_type, host.group) for host in hosts} == {("ml.m5.large", "homogeneousCluster")}


@reproduces("hosts")
def test_ten_hosts_are_listed_as_texts_are_sorted() -> None:
    hosts = hosts_of(one_kind(11))
    expected = ["algo-1", "algo-10", "algo-11", *(f"algo-{number}" for number in range(2, 10))]
    assert resource_config(hosts, hosts[1]) == {
        "current_host": "algo-2",
        "current_instance_type": "ml.m5.large",
        "current_group_name": "homogeneousCluster",
        "hosts": expected,
        "instance_groups": [
            {
                "instance_group_name": "homogeneousCluster",
                "instance_type": "ml.m5.large",
                "hosts": expected,
            }
        ],
        "network_interface_name": "eth0",
    }


@reproduces("groups")
def test_groups_share_the_numbers_and_each_has_its_own_hosts_and_type() -> None:
    hosts = hosts_of(grouped(1, 2))
    told = resource_config(hosts, hosts[2])
    assert (told["current_group_name"], told["current_instance_type"]) == ("g1", "ml.m5.1xlarge")
    assert told["hosts"] == ["algo-1", "algo-2", "algo-3"]
    assert told["instance_groups"] == [
        {"instance_group_name": "g0", "instance_type": "ml.m5.0xlarge", "hosts": ["algo-1"]},
        {"instance_group_name": "g1", "instance_type": "ml.m5.1xlarge", "hosts": ["algo-2", "algo-3"]},
    ]


@settings(deadline=None, max_examples=50)
@given(COUNTS)
def test_every_host_is_in_exactly_one_group_and_all_are_told_the_same_but_who_they_are(
    counts: list[int],
) -> None:
    hosts = hosts_of(grouped(*counts))
    assert len(hosts) == sum(counts)
    told = [resource_config(hosts, host) for host in hosts]
    for host, one in zip(hosts, told, strict=True):
        assert one["current_host"] == host.name
        (group,) = [group for group in one["instance_groups"] if host.name in group["hosts"]]
        assert (group["instance_group_name"], group["instance_type"]) == (host.group, host.instance_type)
        own = {name: value for name, value in one.items() if not name.startswith("current_")}
        assert own == {name: value for name, value in told[0].items() if not name.startswith("current_")}
    listed = [name for group in told[0]["instance_groups"] for name in group["hosts"]]
    assert sorted(listed) == told[0]["hosts"] == names(hosts)


def channel(name: str, *groups: str) -> dict[str, Any]:
    source = {"S3DataType": "S3Prefix", "S3Uri": f"s3://team/{name}/"}
    return {
        "ChannelName": name,
        "DataSource": {
            "S3DataSource": {**source, "InstanceGroupNames": list(groups)} if groups else {**source}
        },
    }


@reproduces("groups")
def test_a_channel_for_certain_groups_is_unknown_to_the_others() -> None:
    request = grouped(1, 1, 1) | {
        "AlgorithmSpecification": {"TrainingInputMode": "File"},
        "InputDataConfig": [channel("all"), channel("first", "g0"), channel("two", "g1", "g2")],
    }
    seen = [list(input_data_config(request, host)) for host in hosts_of(request)]
    assert seen == [["all", "first"], ["all", "two"], ["all", "two"]]
    assert [one["ChannelName"] for one in channels_of(request, hosts_of(request)[0])] == ["all", "first"]
