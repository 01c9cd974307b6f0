"""Names: legal, unique, ordered; S3 URIs, roles and images taken apart."""

from __future__ import annotations

import re
import string
from datetime import datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from sagemaker_launcher import service_model
from sagemaker_launcher.naming import (
    ImageUri,
    RoleArn,
    S3Uri,
    experiment_name_problem,
    job_name,
    launch_second,
    legal_experiment_name,
    newest_first,
    second_of_newest_first,
)
from tests.fault_rows import provokes

_NOON = datetime(2026, 11, 21, 12, 0, 0, tzinfo=timezone.utc)
_DIGEST = "sha256:" + "0123456789abcdef" * 4
_fast = hypothesis_settings(deadline=None, max_examples=200)
_seconds = st.integers(1_577_836_800, 7_258_118_400).map(
    lambda number: datetime.fromtimestamp(number, timezone.utc)
)


class TestJobName:
    @provokes(21)
    @_fast
    @given(st.text(), st.text(string.ascii_lowercase + string.digits, min_size=6, max_size=6))
    def test_is_what_the_service_takes_whatever_the_experiment_is_called(
        self, experiment: str, token: str
    ) -> None:
        shape = service_model.shapes()["TrainingJobName"]
        name = job_name(experiment, _NOON, token)
        assert re.fullmatch(shape["pattern"], name)
        assert len(name) <= shape["max"] == 63

    def test_starts_with_the_experiment_and_ends_with_time_and_token(self) -> None:
        assert job_name("digits/baseline", _NOON, "0a1b2c") == "digits-baseline-20261121-120000-0a1b2c"

    @pytest.mark.parametrize(
        ("experiment", "start"),
        [
            ("a" * 500, "a" * 40),
            ("a" * 39 + "/b", "a" * 39),  # no hyphen is left at the cut
            ("--x--", "x"),
            ("数字", "job"),
            ("", "job"),
            ("né/ü", "n"),
        ],
    )
    def test_of_a_long_or_foreign_experiment_keeps_its_tail(self, experiment: str, start: str) -> None:
        assert job_name(experiment, _NOON, "0a1b2c") == f"{start}-20261121-120000-0a1b2c"

    def test_is_told_in_utc_wherever_the_laptop_is(self) -> None:
        tokyo = _NOON.astimezone(timezone(timedelta(hours=9)))
        assert job_name("x", tokyo, "0a1b2c") == "x-20261121-120000-0a1b2c"

    @_fast
    @given(st.text(), _seconds)
    def test_tells_its_second(self, experiment: str, second: datetime) -> None:
        assert launch_second(job_name(experiment, second, "0a1b2c")) == second

    @pytest.mark.parametrize(
        "name",
        [
            "x",
            "x-20261121-120000",
            "x-20261321-120000-0a1b2c",
            "x-20261121-250000-0a1b2c",
            "-20261121-120000-0a1b2c",
            "",
        ],
    )
    def test_of_somebody_else_tells_no_second(self, name: str) -> None:
        assert launch_second(name) is None


class TestNewestFirst:
    @_fast
    @given(_seconds, _seconds)
    def test_sorts_the_later_second_first(self, one: datetime, other: datetime) -> None:
        assert (newest_first(one) < newest_first(other)) == (one > other)

    @_fast
    @given(_seconds)
    def test_can_be_read_back(self, second: datetime) -> None:
        assert second_of_newest_first(newest_first(second)) == second

    @pytest.mark.parametrize(
        "number", ["", "123", "99999999999", "-123456789", "12345678x9", "١٢٣٤٥٦٧٨٩٠", "1234567890\n"]
    )
    def test_of_anything_else_is_refused(self, number: str) -> None:
        with pytest.raises(ValueError, match="not a time of the index"):
            second_of_newest_first(number)


class TestExperimentName:
    @pytest.mark.parametrize("name", ["a", "digits/baseline", "A.b_c-d/1/2.0", "0", "a" * 128])
    def test_of_letters_digits_dots_and_slashes_is_fine(self, name: str) -> None:
        assert experiment_name_problem(name) == ""

    @provokes(21)
    @pytest.mark.parametrize(
        "name",
        [
            "", "/", "a/", "/a", "a//b", ".", "..", "a/../b", "-a", ".a", "_a", "a b", "a\n", "a\x1b[31m", "é", "a/é", "数字",
            "a:b", "a\\b", "a%2fb", "a" * 129,
        ],
    )  # fmt: skip
    def test_of_anything_else_has_a_problem(self, name: str) -> None:
        assert experiment_name_problem(name)

    @provokes(21)
    @_fast
    @given(st.text(max_size=200))
    def test_is_suggested_legal_or_not_at_all(self, name: str) -> None:
        suggestion = legal_experiment_name(name)
        assert not suggestion or not experiment_name_problem(suggestion)

    @pytest.mark.parametrize(
        ("name", "suggestion"),
        [("my run/né", "my-run/n"), ("/a//b/", "a/b"), ("..", ""), ("digits/ok", "digits/ok"), ("-x-", "x")],
    )
    def test_is_suggested_near_to_what_was_meant(self, name: str, suggestion: str) -> None:
        assert legal_experiment_name(name) == suggestion


class TestS3Uri:
    @pytest.mark.parametrize(
        ("text", "bucket", "key"),
        [
            ("s3://abc", "abc", ""),
            ("s3://abc/", "abc", ""),
            ("s3://a.b-c9/x", "a.b-c9", "x"),
            ("s3://abc/x/y/", "abc", "x/y/"),
            ("s3://abc/x=1/é+&$", "abc", "x=1/é+&$"),
            (f"s3://{'a' * 63}/x", "a" * 63, "x"),
            (f"s3://abc/{'k' * 1024}", "abc", "k" * 1024),
        ],
    )
    def test_is_taken_apart(self, text: str, bucket: str, key: str) -> None:
        assert S3Uri.parse(text) == S3Uri(bucket, key)

    @provokes(23)
    @pytest.mark.parametrize(
        ("text", "part"),
        [
            ("", "s3://"),
            ("s3:/abc/x", "s3://"),
            ("S3://abc/x", "s3://"),
            ("https://abc.s3.amazonaws.com/x", "s3://"),
            ("file:///tmp", "s3://"),
            ("/tmp", "s3://"),
            (" s3://abc/x", "s3://"),
            ("s3://", "bucket"),
            ("s3:///x", "bucket"),
            ("s3://ab/x", "bucket"),
            ("s3://Team/x", "bucket"),
            ("s3://te_am/x", "bucket"),
            ("s3://-abc/x", "bucket"),
            ("s3://abc-/x", "bucket"),
            ("s3://a..b/x", "bucket"),
            (f"s3://{'a' * 64}/x", "bucket"),
            ("s3://abc\n/x", "bucket"),
            ("s3://äbc/x", "bucket"),
            ("s3://abc/x y", "white space"),
            ("s3://abc/x\ny", "white space or a control"),
            ("s3://abc/x\x1b[31m", "control"),
            ("s3://abc//x", "//"),
            ("s3://abc/x//y", "//"),
            ("s3://abc/x//", "//"),
            ("s3://abc/./x", r"'\.'"),
            ("s3://abc/x/../y", r"'\.\.'"),
            ("s3://abc/..", r"'\.\.'"),
            (f"s3://abc/{'k' * 1025}", "1,024 bytes"),
            (f"s3://abc/{'é' * 513}", "1,024 bytes"),
        ],
    )
    def test_that_is_wrong_is_refused_with_the_part_that_is_wrong(self, text: str, part: str) -> None:
        with pytest.raises(ValueError, match=part):
            S3Uri.parse(text)

    @_fast
    @given(st.text())
    def test_that_is_accepted_is_written_as_it_was_read(self, rest: str) -> None:
        try:
            uri = S3Uri.parse(f"s3://{rest}")
        except ValueError:
            return
        assert str(uri).removesuffix("/") == f"s3://{rest}".removesuffix("/")

    def test_walks_up_and_down(self) -> None:
        uri = S3Uri.parse("s3://abc/x/y")
        assert str(uri / "z") == "s3://abc/x/y/z"
        assert str(uri.folder / "z") == "s3://abc/x/y/z"
        assert str(S3Uri("abc") / "z") == "s3://abc/z"
        assert str(uri.folder) == str(uri.folder.folder) == "s3://abc/x/y/"
        assert str(uri.parent) == str(uri.folder.parent) == "s3://abc/x/"
        assert (uri.name, uri.folder.name) == ("y", "y")
        assert str(S3Uri("abc").folder) == "s3://abc/"


class TestRoleArn:
    @pytest.mark.parametrize(
        ("text", "partition"),
        [
            ("arn:aws:iam::012345678901:role/Name", "aws"),
            ("arn:aws-cn:iam::012345678901:role/service-role/A+=,.@-_b", "aws-cn"),
            ("arn:aws-us-gov:iam::012345678901:role/x", "aws-us-gov"),
        ],
    )
    def test_is_taken_apart(self, text: str, partition: str) -> None:
        assert RoleArn.parse(text) == RoleArn(partition, "012345678901")

    @pytest.mark.parametrize(
        "text",
        [
            "",
            "SageMakerExecutionRole",
            "role/Name",
            "arn:aws:iam::12345678901:role/Name",
            "arn:aws:iam::012345678901:user/Name",
            "arn:aws:iam::012345678901:role/",
            "arn:aws:iam::012345678901:role/a b",
            "arn:aws:iam::012345678901:role/Name\n",
            "arn:aws:s3:::bucket",
            "arn:aws:iam::٠١٢٣٤٥٦٧٨٩٠١:role/Name",
            "arn:aws:iam::012345678901:role/Näme",
        ],
    )
    def test_that_is_no_full_role_arn_is_refused(self, text: str) -> None:
        with pytest.raises(ValueError, match="not the full ARN of an IAM role"):
            RoleArn.parse(text)


class TestImageUri:
    @pytest.mark.parametrize(
        ("text", "image"),
        [
            (
                "012345678901.dkr.ecr.eu-west-1.amazonaws.com/a/b-c.d_e:1.0-GPU_x",
                ImageUri("012345678901", "eu-west-1", "amazonaws.com", "1.0-GPU_x", "", "a/b-c.d_e"),
            ),
            (
                f"012345678901.dkr.ecr.cn-north-1.amazonaws.com.cn/a:x@{_DIGEST}",
                ImageUri("012345678901", "cn-north-1", "amazonaws.com.cn", "x", _DIGEST, "a"),
            ),
            (
                f"012345678901.dkr.ecr-fips.us-gov-west-1.amazonaws.com/a@{_DIGEST}",
                ImageUri("012345678901", "us-gov-west-1", "amazonaws.com", "", _DIGEST, "a"),
            ),
            ("python:3.12-slim", ImageUri("", "", "", "3.12-slim", "")),
            ("registry.example.com:5000/python:3", ImageUri("", "", "", "3", "")),
            ("docker.io/library/python:3", ImageUri("", "", "", "3", "")),
        ],
    )
    def test_is_taken_apart(self, text: str, image: ImageUri) -> None:
        assert ImageUri.parse(text) == image

    @provokes(25)
    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("012345678901.dkr.ecr.us-east-1.amazonaws.com/name", "neither a tag nor a digest"),
            ("python", "neither a tag nor a digest"),
            ("registry.example.com:5000/name", "neither a tag nor a digest"),
            ("", "not an image reference"),
            ("-v:1", "not an image reference"),
            ("--privileged", "not an image reference"),
            ("-v:5000/a:1", "not an image reference"),
            ("registry.example.com:5000/../a:1", "not an image reference"),
            ("012345678901.dkr.ecr.us-east-1.amazonaws.com/Name:1", "not an image reference"),
            ("012345678901.dkr.ecr.us-east-1.amazonaws.com/-v:1", "not an image reference"),
            ("012345678901.dkr.ecr.us-east-1.amazonaws.com/name:-1", "not an image reference"),
            ("012345678901.dkr.ecr.us-east-1.amazonaws.com/a b:1", "not an image reference"),
            ("012345678901.dkr.ecr.us-east-1.amazonaws.com/a:1\n", "not an image reference"),
            ("012345678901.dkr.ecr.us-east-1.amazonaws.com/a@sha256:abc", "not an image reference"),
            ("https://012345678901.dkr.ecr.us-east-1.amazonaws.com/a:1", "not an image reference"),
            (f"name:{'t' * 129}", "not an image reference"),
        ],
    )
    def test_that_is_wrong_is_refused(self, text: str, message: str) -> None:
        with pytest.raises(ValueError, match=message):
            ImageUri.parse(text)
