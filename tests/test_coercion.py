"""Values get the types of the defaults, or a problem that says where, what and what instead."""

from __future__ import annotations

from typing import Any

import pytest

from sagemaker_launcher import strict_yaml
from sagemaker_launcher.coercion import (
    Anything,
    ListOf,
    Merged,
    Open,
    Override,
    Schema,
    Section,
    default_values,
    merge,
)

_ITEM = Section({"Name": "", "Count": 1})
_SCHEMA = Schema(
    Section(
        {
            "TEXT": "plain",
            "COUNT": 3,
            "RATE": 0.5,
            "FLAG": False,
            "WORDS": ListOf("", ("a",)),
            "NUMBERS": ListOf(0, ()),
            "ITEMS": ListOf(_ITEM, ()),
            "OPEN": Open("", {"GIVEN": "1"}),
            "PLACES": Open(Section({"URI": "", "MODE": "File"}, short_form="URI"), {}),
            "FREE": Open(Anything(), {}),
            "ANY": Anything(),
            "PART": Section({"LEARNING_RATE": 0.1, "DEEP": Section({"LEAF": 1})}),
        }
    ),
    {"PART.LR": "PART.LEARNING_RATE", "OLD_TEXT": "TEXT"},
)


def _merged(text: str, *overrides: tuple[str, str]) -> Merged:
    document = strict_yaml.parse(text.encode(), "f.yaml")
    return merge(
        _SCHEMA, document, "f.yaml", tuple(Override("--set", key, value) for key, value in overrides)
    )


def _values(text: str, *overrides: tuple[str, str]) -> dict[str, Any]:
    merged = _merged(text, *overrides)
    assert merged.problems == []
    return merged.values


def _problems(text: str, *overrides: tuple[str, str]) -> list[str]:
    return [str(problem) for problem in _merged(text, *overrides).problems]


class TestValues:
    def test_that_are_not_given_are_the_defaults(self) -> None:
        assert _values("TEXT: x") == {**default_values(_SCHEMA.root), "TEXT": "x"}

    def test_of_defaults_are_not_shared_between_merges(self) -> None:
        _values("TEXT: x")["WORDS"].append("changed")
        _values("TEXT: x")["OPEN"]["GIVEN"] = "changed"
        assert _values("TEXT: x")["WORDS"] == ["a"]
        assert _values("TEXT: x")["OPEN"] == {"GIVEN": "1"}

    @pytest.mark.parametrize(
        ("text", "value"),
        [
            # Text is what stands in the file, whatever a YAML reader may see in it.
            ("TEXT: 1.10", "1.10"),
            ("TEXT: 1234e56", "1234e56"),
            ("TEXT: 012345678901", "012345678901"),
            ('TEXT: "012345678901"', "012345678901"),
            ("TEXT: None", "None"),
            ("TEXT: no", "no"),
            ("TEXT: on", "on"),
            ("TEXT: true", "true"),
            ("TEXT: 1:30", "1:30"),
            ("TEXT: 2024-01-01", "2024-01-01"),
            ("TEXT: 0x1F", "0x1F"),
            ("TEXT: (1, 2)", "(1, 2)"),
            ('TEXT: "null"', "null"),
            ('TEXT: ""', ""),
            ("TEXT: |\n  a\n  b\n", "a\nb\n"),
            ("COUNT: 4", 4),
            ("COUNT: -4", -4),
            ("COUNT: 010", 10),
            ("COUNT: 0o10", 8),
            ("COUNT: 0x10", 16),
            ("RATE: 1", 1.0),
            ("RATE: 1e-3", 0.001),
            ("RATE: .5", 0.5),
            ("RATE: -1.5E+3", -1500.0),
            ("FLAG: true", True),
            ("FLAG: False", False),
            ("WORDS: []", []),
            ("WORDS: [1, no, 1.10]", ["1", "no", "1.10"]),
            ("NUMBERS: [1, 2]", [1, 2]),
            ("ITEMS: [{Name: a}, {Count: 2}]", [{"Name": "a", "Count": 1}, {"Name": "", "Count": 2}]),
            ("OPEN: {lr: 0.1, flag: true}", {"GIVEN": "1", "lr": "0.1", "flag": "true"}),
            ("OPEN: {SOLVER.BASE_LR: 1}", {"GIVEN": "1", "SOLVER.BASE_LR": "1"}),
            ("PLACES: {a: s3://x}", {"a": {"URI": "s3://x", "MODE": "File"}}),
            ("PLACES: {a: {MODE: Pipe}}", {"a": {"URI": "", "MODE": "Pipe"}}),
            ("FREE: {a: [1, {b: 1.5}]}", {"a": [1, {"b": 1.5}]}),
            ("ANY: null", None),
            ("ANY: [1, x]", [1, "x"]),
            ("PART: {}", {"LEARNING_RATE": 0.1, "DEEP": {"LEAF": 1}}),
            ("PART: {DEEP: {LEAF: 2}}", {"LEARNING_RATE": 0.1, "DEEP": {"LEAF": 2}}),
        ],
    )
    def test_get_the_type_of_their_default(self, text: str, value: object) -> None:
        found = _values(text)[text.partition(":")[0]]
        assert found == value
        assert type(found) is type(value)

    @pytest.mark.parametrize(
        ("text", "problem"),
        [
            ('COUNT: "3"', 'f.yaml:1:8: COUNT: wrong type; expected a whole number, got the text "3"'),
            ("COUNT: 3.0", "f.yaml:1:8: COUNT: wrong type; expected a whole number, got 3.0"),
            ("COUNT: 1e3", "f.yaml:1:8: COUNT: wrong type; expected a whole number, got 1e3"),
            ("COUNT: true", "f.yaml:1:8: COUNT: wrong type; expected a whole number, got true"),
            ("COUNT: many", "f.yaml:1:8: COUNT: wrong type; expected a whole number, got many"),
            ("COUNT: 1_000", "f.yaml:1:8: COUNT: wrong type; expected a whole number, got 1_000"),
            ("COUNT: null", "f.yaml:1:8: COUNT: wrong type; expected a whole number, got null"),
            ("COUNT:", "f.yaml:1:7: COUNT: wrong type; expected a whole number, got nothing"),
            ("COUNT: [3]", "f.yaml:1:8: COUNT: wrong type; expected a whole number, got a list"),
            ("COUNT: {a: 3}", "f.yaml:1:8: COUNT: wrong type; expected a whole number, got a mapping"),
            ('RATE: "0.5"', 'f.yaml:1:7: RATE: wrong type; expected a number, got the text "0.5"'),
            ("RATE: false", "f.yaml:1:7: RATE: wrong type; expected a number, got false"),
            ("FLAG: no", "f.yaml:1:7: FLAG: wrong type; expected true or false, got no"),
            ("FLAG: 1", "f.yaml:1:7: FLAG: wrong type; expected true or false, got 1"),
            ('FLAG: "true"', 'f.yaml:1:7: FLAG: wrong type; expected true or false, got the text "true"'),
            ("TEXT: null", 'f.yaml:1:7: TEXT: wrong type; expected text, or "" for none, got null'),
            ("TEXT: ~", 'f.yaml:1:7: TEXT: wrong type; expected text, or "" for none, got ~'),
            ("TEXT:", 'f.yaml:1:6: TEXT: wrong type; expected text, or "" for none, got nothing'),
            ("TEXT: [a]", "f.yaml:1:7: TEXT: wrong type; expected text, got a list"),
            ("WORDS: a", "f.yaml:1:8: WORDS: wrong type; expected a list, got a"),
            ("WORDS: {a: b}", "f.yaml:1:8: WORDS: wrong type; expected a list, got a mapping"),
            ("WORDS: [a, [b]]", "f.yaml:1:12: WORDS[1]: wrong type; expected text, got a list"),
            ("NUMBERS: [1, x]", "f.yaml:1:14: NUMBERS[1]: wrong type; expected a whole number, got x"),
            ("ITEMS: [a]", "f.yaml:1:9: ITEMS[0]: wrong type; expected a mapping, got a"),
            (
                "ITEMS: [{}, {Count: x}]",
                "f.yaml:1:21: ITEMS[1].Count: wrong type; expected a whole number, got x",
            ),
            ("OPEN: [a]", "f.yaml:1:7: OPEN: wrong type; expected a mapping, got a list"),
            ("OPEN: {a: null}", 'f.yaml:1:11: OPEN.a: wrong type; expected text, or "" for none, got null'),
            ("PLACES: {a: [x]}", "f.yaml:1:13: PLACES.a: wrong type; expected a mapping, got a list"),
            ("PART:", "f.yaml:1:6: PART: wrong type; expected a mapping, got nothing"),
            ("PART: 3", "f.yaml:1:7: PART: wrong type; expected a mapping, got 3"),
            ("PART: {DEEP: 3}", "f.yaml:1:14: PART.DEEP: wrong type; expected a mapping, got 3"),
        ],
    )
    def test_of_another_type_are_a_problem_and_the_default_stands(self, text: str, problem: str) -> None:
        merged = _merged(text)
        assert [str(found) for found in merged.problems] == [problem]
        # Later checks go on with whole values.
        key = text.partition(":")[0]
        if key in ("TEXT", "COUNT", "RATE", "FLAG", "PART", "OPEN"):
            assert merged.values[key] == default_values(_SCHEMA.root)[key]

    def test_that_are_long_are_shortened_in_a_problem(self) -> None:
        [problem] = _problems(f"COUNT: {'x' * 5000}")
        assert len(problem) < 200


class TestUnknownKeys:
    def test_are_all_reported_with_their_lines(self) -> None:
        found = _problems("TXT: a\nPART:\n  LERNING_RATE: 1\n  DEEP: {LAEF: 1}\nZZZ: 1\n")
        assert found == [
            "f.yaml:1:1: TXT: unknown key (did you mean TEXT?)",
            "f.yaml:3:3: PART.LERNING_RATE: unknown key (did you mean PART.LEARNING_RATE?)",
            "f.yaml:4:10: PART.DEEP.LAEF: unknown key (did you mean PART.DEEP.LEAF?)",
            "f.yaml:5:1: ZZZ: unknown key",
        ]

    @pytest.mark.parametrize(
        ("text", "suggestion"),
        [
            ("text: a", "TEXT"),  # in the wrong case
            ("LEAF: 1", "PART.DEEP.LEAF"),  # in the wrong place
            ("DEEP: {}", "PART.DEEP"),
            ("PART: {RATE: 1}", "RATE"),
            ("ITEMS: [{name: a}]", "ITEMS[0].Name"),
            ("PLACES: {a: {MODES: x}}", "PLACES.a.MODE"),
        ],
    )
    def test_get_the_valid_key_that_is_near(self, text: str, suggestion: str) -> None:
        [problem] = _merged(text).problems
        assert problem.suggestion == suggestion

    @pytest.mark.parametrize("text", ["PART: {a: 1}", "QQ: 1", "PART: {DEEP: {x: 1}}"])
    def test_that_resemble_nothing_get_no_suggestion(self, text: str) -> None:
        [problem] = _merged(text).problems
        assert problem.suggestion == ""


class TestRenamedKeys:
    def test_are_read_under_their_new_name_with_a_warning(self) -> None:
        merged = _merged("PART:\n  LR: 0.3\n")
        assert merged.problems == []
        assert merged.values["PART"]["LEARNING_RATE"] == 0.3
        assert "LR" not in merged.values["PART"]
        assert merged.warnings == ["f.yaml:2: PART.LR is now called PART.LEARNING_RATE; please rename it"]

    @pytest.mark.parametrize("text", ["OLD_TEXT: a\nTEXT: b\n", "TEXT: b\nOLD_TEXT: a\n"])
    def test_beside_their_new_name_are_a_problem(self, text: str) -> None:
        merged = _merged(text)
        [problem] = map(str, merged.problems)
        assert "OLD_TEXT: is the old name of TEXT, which is given too" in problem
        assert (merged.values["TEXT"], merged.warnings) == ("b", [])

    def test_can_be_set_from_the_command_line(self) -> None:
        merged = _merged("{}", ("PART.LR", "0.3"))
        assert merged.values["PART"]["LEARNING_RATE"] == 0.3
        assert merged.warnings == [
            "--set PART.LR: PART.LR is now called PART.LEARNING_RATE; please rename it"
        ]

    def test_are_checked_like_any_other(self) -> None:
        assert _problems("PART: {LR: x}") == [
            "f.yaml:1:12: PART.LEARNING_RATE: wrong type; expected a number, got x"
        ]


class TestOverrides:
    @pytest.mark.parametrize(
        ("key", "value", "found"),
        [
            ("TEXT", "1.10", "1.10"),
            ("TEXT", "a: b # c", "a: b # c"),
            ("TEXT", '"quoted"', "quoted"),
            ("TEXT", "None", "None"),
            ("TEXT", "", ""),
            ("COUNT", "7", 7),
            ("RATE", "1", 1.0),
            ("FLAG", "true", True),
            ("WORDS", "[a, 1.10]", ["a", "1.10"]),
            ("OPEN", "{x: 1}", {"GIVEN": "1", "x": "1"}),
            ("OPEN.x", "1", {"GIVEN": "1", "x": "1"}),
            ("OPEN.GIVEN", "2", {"GIVEN": "2"}),
            ("OPEN.SOLVER.BASE_LR", "0.1", {"GIVEN": "1", "SOLVER.BASE_LR": "0.1"}),
            ("PLACES.a", "s3://x", {"a": {"URI": "s3://x", "MODE": "File"}}),
            ("PLACES.a.MODE", "Pipe", {"a": {"URI": "", "MODE": "Pipe"}}),
            ("PART.DEEP.LEAF", "5", {"LEARNING_RATE": 0.1, "DEEP": {"LEAF": 5}}),
            ("PART", "{DEEP: {LEAF: 5}}", {"LEARNING_RATE": 0.1, "DEEP": {"LEAF": 5}}),
            ("ANY", "null", None),
            ("FREE.a", "1.5", {"a": 1.5}),
        ],
    )
    def test_are_typed_like_the_file(self, key: str, value: str, found: object) -> None:
        values = _values("{}", (key, value))[key.partition(".")[0]]
        assert values == found
        assert type(values) is type(found)

    def test_win_over_the_file_and_the_last_one_over_the_others(self) -> None:
        assert _values("COUNT: 1", ("COUNT", "2"), ("COUNT", "3"))["COUNT"] == 3

    def test_change_one_key_of_what_the_file_says(self) -> None:
        places = _values("PLACES: {a: s3://x, b: s3://y}", ("PLACES.a.MODE", "Pipe"))["PLACES"]
        assert places == {"a": {"URI": "s3://x", "MODE": "Pipe"}, "b": {"URI": "s3://y", "MODE": "File"}}

    @pytest.mark.parametrize(
        ("key", "value", "problem"),
        [
            ("COUNT", "x", "--set COUNT: wrong type; expected a whole number, got x"),
            ("COUNT", '"3"', 'got the text "3"'),
            ("CONUT", "3", "--set CONUT: unknown key (did you mean COUNT?)"),
            ("PART.DEEP.LAEF", "3", "PART.DEEP.LAEF: unknown key (did you mean PART.DEEP.LEAF?)"),
            ("COUNT.x", "3", "--set COUNT.x: COUNT is a value and has no keys of its own, got 3"),
            ("WORDS[0]", "a", "WORDS[0]: unknown key (did you mean WORDS?)"),
            ("", "3", "unknown key"),
            ("..", "3", "unknown key"),
            ("A:1:2", "3", "A:1:2: unknown key"),
            ("OPEN.items", "3", "--set OPEN.items: items: cannot be a key"),
            ("OPEN.__class__", "3", "__class__: cannot be a key"),
            ("PLACES.keys", "s3://x", "keys: cannot be a key"),
            ("WORDS", "[a", "--set WORDS: this bracket is never closed"),
            ("TEXT", "a\x00b", "the character U+0000 is not allowed"),
            ("RATE", ".inf", "not a finite number"),
        ],
    )
    def test_that_are_wrong_are_problems_that_name_the_option(
        self, key: str, value: str, problem: str
    ) -> None:
        [found] = _problems("{}", (key, value))
        assert found.startswith(f"--set {key}: ")
        assert problem in found

    def test_are_all_checked(self) -> None:
        assert len(_problems("COUNT: x", ("RATE", "x"), ("FLAG", "x"), ("NOPE", "x"))) == 4


def test_every_given_key_has_its_place() -> None:
    merged = _merged("TEXT: a\nPART:\n  DEEP: {LEAF: 2}\nITEMS:\n  - Name: x\n", ("COUNT", "2"))
    assert merged.places == {
        "TEXT": "f.yaml:1:7",
        "PART": "f.yaml:3:3",
        "PART.DEEP": "f.yaml:3:9",
        "PART.DEEP.LEAF": "f.yaml:3:16",
        "ITEMS": "f.yaml:5:3",
        "ITEMS[0]": "f.yaml:5:5",
        "ITEMS[0].Name": "f.yaml:5:11",
        "COUNT": "--set COUNT",
    }


def test_dotted_keys_are_in_the_order_of_the_defaults() -> None:
    assert _SCHEMA.dotted_keys[:2] == ("TEXT", "COUNT")
    assert _SCHEMA.dotted_keys[-2:] == ("PART.LEARNING_RATE", "PART.DEEP.LEAF")


class TestFreeSections:
    def test_an_override_reaches_into_them_as_deep_as_its_key_goes(self) -> None:
        values = _values("FREE: {FLIP: {SIDES: 2}}", ("FREE.FLIP.P", "0.5"), ("FREE.NEW.DEEP.KEY", "on"))
        assert values["FREE"] == {"FLIP": {"SIDES": 2, "P": 0.5}, "NEW": {"DEEP": {"KEY": "on"}}}

    def test_a_value_in_them_has_no_keys_of_its_own(self) -> None:
        [problem] = _problems("FREE: {FLIP: 1}", ("FREE.FLIP.P", "0.5"))
        assert "FREE.FLIP is a value and has no keys of its own" in problem
