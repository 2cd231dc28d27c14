"""Where the paper terminal and the rules read the same fact independently, they agree (decision 0007)."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import pytest

from market.server_time import ServerTimeRule
from paper_terminal.server_time import ServerTimeRule as PaperRule

HOUR_MS = 3_600_000


@pytest.mark.parametrize("name", ["ny+7", "eu+2", "utc"])
def test_server_time_agrees_on_every_hour(name: str) -> None:
    begin, end = (int(datetime(year, 1, 1, tzinfo=UTC).timestamp() * 1000) for year in (2007, 2037))
    hours = np.arange(begin, end, HOUR_MS, dtype=np.int64)
    paper = PaperRule(name)
    ours = ServerTimeRule.parse(name).to_server_ms_array(hours)
    np.testing.assert_array_equal(ours, [paper.to_server_ms(int(hour)) for hour in hours])
