"""Downloads from a local server with all the faults of real servers."""

import gzip
import hashlib
import http.server
import json
import tempfile
import threading
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from helpers import morphot
from morphot_jax import read_volume, write_volume
from morphot_jax.maps import databanks as fetching
from morphot_jax.maps.databanks import Entry, fetch
from morphot_jax.maps.load import load
from morphot_jax.maps.samples import sample_volume
from morphot_jax.system.errors import InputError
from shapes import volume_of


def packed_map(seed):
    """A small map of noise, as a file."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "noise.map.gz"
        write_volume(volume_of(np.random.default_rng(seed).random((20, 20, 20))), path)
        return path.read_bytes()


def packed_model():
    """A chain of five carbon atoms, as a file."""
    lines = ["data_x", "loop_"]
    names = "group_PDB id type_symbol label_atom_id label_alt_id label_comp_id label_asym_id label_entity_id"
    names += " label_seq_id Cartn_x Cartn_y Cartn_z occupancy B_iso_or_equiv auth_seq_id auth_asym_id"
    names += " pdbx_PDB_model_num"
    lines += [f"_atom_site.{name}" for name in names.split()]
    lines += [f"ATOM {i} C CA . ALA A 1 {i} {3.8 * i} 0 0 1 10 {i} A 1" for i in range(1, 6)]
    return gzip.compress(("\n".join(lines) + "\n").encode(), mtime=0)


CONTENT, MODEL = packed_map(1), packed_model()
PORTAL = b"<!DOCTYPE html><html><body>Log in to use this network.</body></html>"
NO_MAP = {  # and no model
    "nothing": b"",
    "page": PORTAL,
    "packed page": gzip.compress(PORTAL, mtime=0),
    "packed nothing": gzip.compress(b"", mtime=0),
    "map cut short": CONTENT[:-300],
    "model cut short": MODEL[:-9],
    "beginning of gzip": b"\x1f\x8b\x08",
}

pytest.importorskip("pooch")
# pooch leaves the sockets of broken answers to the garbage collector.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        server = self.server
        server.asked.append(self.path)
        fault = server.faults.pop(0) if server.faults else None
        if fault == "gone":
            self.send_error(404)
            return
        if fault == "busy":
            self.send_error(503)
            return
        body = server.model if self.path.endswith(".cif.gz") else server.content
        self.send_response(200)
        if fault != "unsized":
            self.send_header("Content-Length", str(len(body) + (1000 if fault == "long" else 0)))
        self.end_headers()
        self.wfile.write(body[: len(body) // 2] if fault == "cut" else body)

    def log_message(self, *arguments):
        pass


@pytest.fixture
def server(monkeypatch, tmp_path):
    """A server on loopback; ``faults``: the fault of each request, in order."""
    httpd = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    httpd.content, httpd.model, httpd.faults, httpd.asked = CONTENT, MODEL, [], []
    thread = threading.Thread(target=httpd.serve_forever, daemon=True)
    thread.start()
    base = f"http://127.0.0.1:{httpd.server_port}"
    monkeypatch.setenv("MORPHOT_EMDB", base + "/EMD-{id}/emd_{id}.map.gz")
    monkeypatch.setenv("MORPHOT_PDB", base + "/{id}.cif.gz")
    monkeypatch.setenv("MORPHOT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("time.sleep", lambda seconds: None)  # pooch waits between its tries
    yield httpd
    httpd.shutdown()
    httpd.server_close()
    thread.join()


@pytest.fixture
def cache(tmp_path):
    return tmp_path / "cache"


def kept(cache):
    """The files in the cache, without locks."""
    return {path.name for path in cache.rglob("*") if path.is_file() and not path.name.endswith(".lock")}


@pytest.mark.parametrize(
    ("name", "bank", "number"),
    [
        ("EMD-5138", "emdb", "5138"),
        ("emd_5138", "emdb", "5138"),
        ("emdb:5138", "emdb", "5138"),
        ("emdb:EMD-50138", "emdb", "50138"),
        ("3IYF", "pdb", "3iyf"),
        ("pdb:3iyf", "pdb", "3iyf"),
    ],
)
def test_entries_are_known_by_every_spelling(name, bank, number):
    assert Entry.parse(name) == Entry(bank, number)


@pytest.mark.parametrize(
    "name", ["", "emdb:", "EMD-12", "pdb:3iy", "../../etc", "emdb:5138/../x", "iyf3", "3iyf.cif"]
)
def test_what_is_no_entry_is_refused(name):
    with pytest.raises(InputError, match="is not an entry"):
        Entry.parse(name)


def test_addresses_are_those_of_the_data_banks(monkeypatch):
    monkeypatch.delenv("MORPHOT_EMDB", raising=False)
    monkeypatch.delenv("MORPHOT_PDB", raising=False)
    assert Entry("emdb", "5138").address.endswith("/EMD-5138/map/emd_5138.map.gz")
    assert Entry("pdb", "3iyf").address.endswith("/3iyf.cif.gz")


def test_an_entry_is_downloaded_once(server, cache):
    seen = []
    path = fetch("EMD-5138", report=lambda done, total: seen.append((done, total)))
    assert path == cache / "emd_5138.map.gz"
    assert path.read_bytes() == CONTENT
    assert seen[-1] == (len(CONTENT), len(CONTENT))
    assert fetch("emdb:5138") == path
    assert server.asked == ["/EMD-5138/emd_5138.map.gz"]
    assert kept(cache) == {"emd_5138.map.gz", "checksums.json"}
    assert fetch("3iyf").name == "3iyf.cif.gz"
    assert set(json.loads((cache / "checksums.json").read_text())) == {"emd_5138.map.gz", "3iyf.cif.gz"}


@pytest.mark.parametrize("faults", [["busy"], ["cut"], ["long", "busy", "cut"]])
def test_failures_that_pass_are_tried_again(server, faults):
    server.faults = list(faults)
    assert fetch("emdb:5138").read_bytes() == CONTENT
    assert len(server.asked) == len(faults) + 1


@pytest.mark.parametrize(
    ("fault", "words"), [("busy", "503"), ("cut", "IncompleteRead"), ("long", "IncompleteRead")]
)
def test_failures_that_stay_are_said_in_one_line_and_nothing_is_kept(server, cache, fault, words):
    server.faults = [fault] * 9
    with pytest.raises(InputError, match=words) as error:
        fetch("emdb:5138", retries=2)
    assert len(server.asked) == 3
    assert "in 3 tries" in str(error.value)
    assert "\n" not in str(error.value)
    assert kept(cache) == set()


def test_an_entry_that_is_not_there_is_not_asked_for_again(server, cache):
    server.faults = ["gone"]
    with pytest.raises(InputError, match="answers 404 Not Found: check the entry emdb:5138"):
        fetch("emdb:5138")
    assert len(server.asked) == 1
    assert kept(cache) == set()


def test_a_server_that_is_not_there_is_said(monkeypatch, server):
    server.server_close()
    with pytest.raises(InputError, match=r"cannot download http://127\.0\.0\.1:"):
        fetch("emdb:5138", retries=1, timeout=2.0)


@pytest.mark.parametrize("fault", [None, "unsized"])
def test_what_is_too_large_is_stopped(server, cache, fault, monkeypatch):
    monkeypatch.setattr(fetching, "CHUNK", 64)
    server.faults = [fault]
    with pytest.raises(InputError, match="is larger than"):
        fetch("emdb:5138", largest=len(CONTENT) - 200)
    assert len(server.asked) == 1
    assert kept(cache) == set()
    assert fetch("emdb:5138", largest=len(CONTENT)).read_bytes() == CONTENT


def test_a_file_that_was_changed_here_is_refused_until_a_fresh_one_is_asked_for(server, cache):
    path = fetch("emdb:5138")
    path.write_bytes(CONTENT[:-1])
    with pytest.raises(InputError, match=r"has changed since it was downloaded .*: add --fresh"):
        fetch("emdb:5138")
    assert fetch("emdb:5138", fresh=True).read_bytes() == CONTENT
    assert fetch("emdb:5138") == path


def test_content_that_has_changed_at_its_source_is_refused_until_it_is_asked_for(server, cache):
    path = fetch("emdb:5138")
    path.unlink()
    server.content = packed_map(2)
    with pytest.raises(InputError, match="has changed since it was first downloaded"):
        fetch("emdb:5138", retries=0)
    assert not path.exists()
    assert fetch("emdb:5138", fresh=True).read_bytes() == server.content
    assert fetch("emdb:5138").read_bytes() == server.content


def test_a_fresh_download_that_fails_leaves_the_old_file(server, cache):
    path = fetch("emdb:5138")
    server.faults = ["gone"]
    with pytest.raises(InputError, match="404"):
        fetch("emdb:5138", fresh=True)
    assert path.read_bytes() == CONTENT
    assert fetch("emdb:5138") == path


@pytest.mark.parametrize("name", ["emdb:5138", "pdb:3iyf"])
@pytest.mark.parametrize(
    "sent",
    list(NO_MAP.values()),
    ids=list(NO_MAP),
)
def test_what_is_no_map_and_no_model_is_thrown_away_and_said(server, cache, name, sent):
    server.content = server.model = sent
    with pytest.raises(
        InputError, match=r"is not a (map|model), and was thrown away: .*; check the connection"
    ) as error:
        fetch(name)
    assert "\n" not in str(error.value)
    assert kept(cache) == set()
    server.content, server.model = CONTENT, MODEL
    assert fetch(name).read_bytes() in (CONTENT, MODEL)


@pytest.mark.parametrize(("name", "file"), [("emdb:5138", "emd_5138.map.gz"), ("pdb:3iyf", "3iyf.cif.gz")])
def test_what_an_earlier_version_kept_is_downloaded_again(server, cache, name, file):
    cache.mkdir()
    (cache / file).write_bytes(PORTAL)
    (cache / "checksums.json").write_text(json.dumps({file: hashlib.sha256(PORTAL).hexdigest()}))
    assert fetch(name).read_bytes() in (CONTENT, MODEL)


def test_damaged_checksums_are_said(server, cache):
    fetch("emdb:5138")
    (cache / "checksums.json").write_text("{")
    with pytest.raises(InputError, match="cannot be read: delete it"):
        fetch("emdb:5138")


def test_a_download_needs_pooch_and_says_so(monkeypatch, cache):
    monkeypatch.setitem(__import__("sys").modules, "pooch", None)
    with pytest.raises(InputError, match=r"pip install 'morphot_jax\[fetch\]'"):
        fetch("emdb:5138", folder=cache)


def test_several_at_once_download_once(server, cache):
    found = SimpleNamespace(paths=[])
    threads = [threading.Thread(target=lambda: found.paths.append(fetch("emdb:5138"))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(found.paths)) == 1
    assert len(server.asked) == 1


# As MAP on the command line.


def test_fetch_prints_where_the_files_are(server, cache):
    done = morphot("fetch", "EMD-5138", "pdb:3iyf")
    assert done.code == 0, done.err
    assert done.out.splitlines() == [str(cache / "emd_5138.map.gz"), str(cache / "3iyf.cif.gz")]
    assert morphot("fetch", "EMD-5138", "--fresh").code == 0
    assert len(server.asked) == 3
    assert done.err.strip() == ""


@pytest.mark.parametrize(("name", "words"), [("EMD-1", "is not an entry"), ("EMD-5138", "answers 404")])
def test_what_cannot_be_fetched_is_one_line(server, name, words):
    server.faults = ["gone"]
    done = morphot("fetch", name)
    assert done.code == 2
    assert words in done.err
    assert len(done.err.strip().splitlines()) == 1


def test_entries_are_maps(server, tmp_path):
    """A map and a model from the server, morphed."""
    volume = sample_volume("adk-open")
    write_volume(volume, tmp_path / "served.map.gz")
    server.content = (tmp_path / "served.map.gz").read_bytes()
    out = tmp_path / "out"
    done = morphot("morph", "emdb:5138", "sample:adk-closed", "-o", out, "--method", "linear", "--frames", 2)
    assert done.code == 0, done.err
    np.testing.assert_allclose(read_volume(out / "vol_000.mrc").data, volume.data, atol=2e-6 * volume.data.max())
    report = json.loads((out / "report.json").read_text(encoding="utf-8"))
    assert report["inputs"][0]["path"] == "emdb:5138"
    assert report["inputs"][0]["sha256"] == hashlib.sha256(server.content).hexdigest()


def test_a_model_becomes_the_density_of_its_atoms(server):
    loaded = load("pdb:1abc")
    assert loaded.volume.mass == pytest.approx(5 * 6, rel=1e-3)  # electrons
    done = morphot("info", "pdb:1abc", "--json")
    assert done.code == 0, done.err
    assert json.loads(done.out)[0]["mass"] == pytest.approx(loaded.volume.mass)
