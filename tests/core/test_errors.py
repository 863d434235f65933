"""Errors for unknown names help to find the right one."""

from __future__ import annotations

from lm_eval_trust.core.errors import ExternalError, InputError, LeakError, TrustError, unknown_name


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
