"""The home folder and the names of files in it."""

from __future__ import annotations

import ntpath
import stat
import sys
from pathlib import Path, PureWindowsPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mt5bus.errors import HomeError
from mt5bus.home import FOLDERS, Home, file_name

RESERVED = {"CON", "PRN", "AUX", "NUL", *(f"{p}{n}" for p in ("COM", "LPT") for n in "0123456789¹²³")}
names = st.text(min_size=1, max_size=300) | st.sampled_from([
    "con",
    "CON",
    "nul",
    "Com1",
    "lpt9",
    "aux.txt",
    "EURUSD",
    "eurusd",
    "#SPX.m",
    "a/b",
    "a:b",
    "x.",
    "x ",
    "COM¹",
])


@given(names)
def test_every_name_is_safe_on_windows(name: str) -> None:
    encoded = file_name(name)
    assert encoded.isascii()
    assert len(encoded) <= 100
    assert not set(encoded) & set('<>:"/\\|?*.') - set()
    assert encoded[-1] not in ". "
    assert encoded.split(".")[0].upper() not in RESERVED
    assert PureWindowsPath(encoded).name == encoded
    assert ntpath.basename(encoded) == encoded
    if sys.version_info >= (3, 13):
        assert not ntpath.isreserved(encoded)


@given(names, names)
def test_two_names_never_share_a_file_also_where_case_does_not_count(one: str, other: str) -> None:
    if one != other:
        assert file_name(one).lower() != file_name(other).lower()


@given(st.text(alphabet="abAB@%-", min_size=1, max_size=8), st.text(alphabet="abAB@%-", min_size=1, max_size=8))
def test_names_made_of_the_encodings_own_signs_stay_apart(one: str, other: str) -> None:
    if one != other:
        assert file_name(one).lower() != file_name(other).lower()


def test_names_stay_readable() -> None:
    assert file_name("ml_logger") == "ml_logger"
    assert file_name("EURUSD") == "EURUSD@3f"
    assert file_name("#SPX.m") == "%23SPX%2em@38"
    with pytest.raises(ValueError, match="empty"):
        file_name("")


def test_a_home_is_found_by_argument_variable_and_platform(tmp_path: Path) -> None:
    assert Home.find(tmp_path, environ={"MT5BUS_HOME": "/other"}).path == tmp_path
    assert Home.find(None, environ={"MT5BUS_HOME": str(tmp_path)}).path == tmp_path
    assert Home.find(None, environ={}).path.name == "mt5bus"


def test_a_home_is_made_for_its_owner_only(tmp_path: Path) -> None:
    home = Home(tmp_path / "a" / "höme").create()
    assert {path.name for path in home.path.iterdir()} == set(FOLDERS)
    assert all(getattr(home, name) == home.path / name for name in FOLDERS)
    if sys.platform != "win32":
        assert all(stat.S_IMODE(path.stat().st_mode) == 0o700 for path in (home.path, *home.path.iterdir()))
        home.keys.chmod(0o755)
        home.create()
        assert stat.S_IMODE(home.keys.stat().st_mode) == 0o700


def test_a_home_that_cannot_be_made_is_one_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(HomeError, match="choose another home"):
        Home(tmp_path / "file").create()
