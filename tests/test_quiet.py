from __future__ import annotations

import logging
import os
import warnings

import pytest

from soundmark.quiet import mute, quiet


def test_warnings_and_loggers_are_silent_for_a_while(caplog: pytest.LogCaptureFixture) -> None:
    with quiet("talker"):
        warnings.warn("nothing of interest", UserWarning, stacklevel=1)
        logging.getLogger("talker").warning("nothing of interest")
        logging.getLogger("talker").error("trouble")
    logging.getLogger("talker").warning("heard again")
    assert [record.message for record in caplog.records] == ["trouble", "heard again"]


def test_compiled_code_is_silent_for_a_while(capfd: pytest.CaptureFixture[str]) -> None:
    os.write(2, b"before ")
    with mute():
        os.write(2, b"nothing of interest ")
    os.write(2, b"after")
    with pytest.raises(KeyError), mute():
        raise KeyError
    os.write(2, b" and after that")
    assert capfd.readouterr().err == "before after and after that"
