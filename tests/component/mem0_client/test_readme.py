"""The examples of the memory README are true."""

import doctest
from pathlib import Path

import structlog

README = Path(__file__).parents[3] / "app" / "rag" / "README_MEM0_INTEGRATION.md"


def test_the_examples_give_what_the_readme_says(memory):
    with structlog.testing.capture_logs():  # the log would stand among the examples' output
        result = doctest.testfile(
            str(README), module_relative=False, optionflags=doctest.REPORT_NDIFF
        )
    assert result.failed == 0
    assert result.attempted >= 20
