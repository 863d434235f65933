"""Errors for unknown names help to find the right one."""

from __future__ import annotations

from lm_eval_trust.core.errors import (
    LONGEST_MESSAGE,
    ExternalError,
    InputError,
    LeakError,
    TrustError,
    reason_of,
    unknown_name,
)


def test_a_short_table_is_printed_whole() -> None:
    message = str(unknown_name("scale", "unti", ("none", "unit", "projection_std")))
    assert message == (
        "Unknown scale 'unti'; known are none, projection_std, unit. Did you mean 'unit'?"
    )


def test_a_long_table_is_not() -> None:
    names = [f"argument_{number}" for number in range(40)] + ["alpha"]
    message = str(unknown_name("argument", "alfa", names))
    assert message.startswith("Unknown argument 'alfa', none of 41; similar are alpha")
    assert message.endswith("Did you mean 'alpha'?")
    assert len(message) < 200


def test_a_name_like_none_of_them_gets_no_hint() -> None:
    assert "Did you mean" not in str(unknown_name("scale", "qqqq", ("none", "unit")))


def test_exit_codes_tell_wrong_input_from_failures_outside() -> None:
    assert (InputError("").exit_code, LeakError("").exit_code) == (2, 2)
    assert (ExternalError("").exit_code, TrustError("").exit_code) == (3, 2)


def test_a_message_of_any_length_keeps_beginning_and_end() -> None:
    message = str(InputError(f"The file holds {'x' * 90_000_000}. Copy it again."))
    assert len(message) == LONGEST_MESSAGE
    assert message.startswith("The file holds xxx") and message.endswith("xxx. Copy it again.")
    assert " […] " in message
    assert str(InputError("y" * LONGEST_MESSAGE)) == "y" * LONGEST_MESSAGE


def test_a_name_of_any_length_is_compared_in_no_time() -> None:
    message = str(unknown_name("scale", "unit" * 1_000_000, ("none", "unit")))
    assert message.startswith("Unknown scale 'unitunit") and len(message) < 200


def test_what_a_terminal_would_obey_is_shown() -> None:
    message = str(ExternalError("The server said \x1b[2J\x07 caf\u00e9 \ud800\nand closed."))
    assert message == "The server said \\x1b[2J\\x07 café \\ud800\nand closed."


def test_a_missing_key_is_told_in_words() -> None:
    assert reason_of(KeyError("metadata")) == "missing key 'metadata'"
