"""The doctor names each fault with its fix."""

import shutil
import sys
from pathlib import Path

import pytest

from core import doctor
from core.doctor import FAULT, NOTE, OK, Finding


def test_this_machine_can_run_the_core(capsys):
    result = doctor.run(doctor.DoctorConfig())
    assert result["exit_code"] == 0
    shown = capsys.readouterr().out
    for subject in ("Python", "torch", "threads", "GPU", "Open3D", "Warp", "data", "disk"):
        assert subject in shown


@pytest.mark.parametrize(("version", "verdict"), [((3, 10), FAULT), ((3, 11), OK), ((3, 13), OK), ((3, 14), FAULT)])
def test_python_3_11_to_3_13(version, verdict):
    finding = doctor.check_python(version)
    assert finding.verdict == verdict and finding.stops_core == bool(finding.fix) == (verdict == FAULT)


def test_a_missing_library_stops_the_core():
    finding = doctor.check_libraries(("json", "no_such_library"))
    assert (finding.verdict, finding.found, finding.fix) == (FAULT, "missing: no_such_library", "make setup")
    assert finding.stops_core


def test_a_missing_system_library_of_open3d_is_a_fault_with_the_apt_command(tmp_path: Path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "open3d.py").touch()
    script = "raise ImportError('libusb-1.0.so.0: cannot open shared object file')"
    finding = doctor.check_open3d((sys.executable, "-c", script))
    assert finding.verdict == FAULT and "libusb-1.0-0" in finding.fix and not finding.stops_core
    assert doctor.check_open3d((sys.executable, "-c", "print('9.9')")).found == "9.9"


def test_more_threads_than_cores_and_busy_waiting_are_noted(monkeypatch):
    monkeypatch.setattr(doctor, "available_cores", lambda: 2)
    monkeypatch.setenv("OMP_NUM_THREADS", "8")
    monkeypatch.setenv("OMP_WAIT_POLICY", "passive")
    assert doctor.check_threads().fix == "export OMP_NUM_THREADS=2"
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    assert doctor.check_threads().verdict == OK
    monkeypatch.delenv("OMP_WAIT_POLICY")
    assert doctor.check_threads().fix == "export OMP_WAIT_POLICY=passive"


def test_data_folders_are_looked_for(tmp_path: Path, monkeypatch):
    monkeypatch.delenv("SIGHTLINE_DATA", raising=False)
    assert doctor.check_data().verdict == NOTE
    monkeypatch.setenv("SIGHTLINE_DATA", str(tmp_path / "absent"))
    assert "is no folder" in doctor.check_data().found
    monkeypatch.setenv("SIGHTLINE_DATA", str(tmp_path))
    (tmp_path / doctor.DATA_FOLDERS[0]).mkdir()
    assert doctor.DATA_FOLDERS[1] in doctor.check_data().found
    (tmp_path / doctor.DATA_FOLDERS[1]).mkdir()
    assert doctor.check_data().verdict == OK


def test_a_disk_that_is_nearly_full_is_noted(tmp_path: Path):
    free_gb = shutil.disk_usage(tmp_path).free / 1e9
    assert doctor.check_disk(tmp_path, needed_gb=free_gb + 1).verdict == NOTE
    assert doctor.check_disk(tmp_path, needed_gb=0).verdict == OK


def test_the_table_has_the_fix_below_its_line():
    text = doctor.table([Finding("A", OK, "fine"), Finding("disk", FAULT, "full", "tidy up", stops_core=True)])
    assert text.splitlines() == [
        "ok     A     fine",
        "fault  disk  full",
        "             -> tidy up",
        "",
        "1 fault(s), 0 note(s): Sightline cannot run before they are mended",
    ]
