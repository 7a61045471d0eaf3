"""`xpronet serve`: whatever a page, a person or a stranger sends, one clear line comes back and the server lives on."""

import base64
import http.client
import io
import json
import os
import re
import socket
import struct
import tempfile
import threading
import time
import zlib
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image
from typer.testing import CliRunner

from tests.browser import needs_chromium, running_chromium
from tests.made import normalised
from xpronet.app import answers, serve, trained_with
from xpronet.app.answers import Answers, shown_name, without_paths
from xpronet.app.cli import app
from xpronet.app.line import BUSY, WAITING
from xpronet.app.pages import NOTICE
from xpronet.app.reporter import Reporter
from xpronet.app.serve import Server
from xpronet.classifier import network
from xpronet.data.reports import Vocabulary, clean_report
from xpronet.labels.conditions import CONDITIONS
from xpronet.model import checkpoint
from xpronet.model.xpronet import ModelConfig, XProNet
from xpronet.sources.phantom import source

MEGABYTE = 2**20
DEFLATED = "1.2.840.10008.1.2.1.99"  # a transfer syntax that hides any amount of bytes in a few


def make_model(folder: Path, words: list[str], *, crop: int = 64) -> Path:
    """Random weights, with a classifier; labels matter."""
    torch.manual_seed(4)
    sizes = {"backbone": "resnet18", "d_model": 16, "d_ff": 16, "heads": 2, "layers": 1}
    model = XProNet(ModelConfig(len(words), **sizes, n_prototypes=2, d_prototype=8, gamma=3))
    with torch.no_grad():
        model.prototypes.mul_(40)
        model.head.bias[0] = -2  # not over at once
    card = checkpoint.ModelCard(Vocabulary(words), CONDITIONS, "iu_xray", crop=crop, beam_size=2, max_length=12)
    network.save(folder / "classifier", network.StudyClassifier("resnet18"), np.full(14, 0.5, np.float32))
    checkpoint.save(folder / "model", model, card, classifier=folder / "classifier")
    return folder / "model"


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    """One that knows the phantom's words."""
    drawn = [study.findings for study in source.studies(train=0, val=0, test=150, seed=trained_with.SEED)]
    words = Vocabulary.build([clean_report(text, "iu_xray") for text in drawn], 2).tokens
    return make_model(tmp_path_factory.mktemp("served"), words)


@contextmanager
def running(given, **limits):
    with Server("127.0.0.1", 0, given, **limits) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture(scope="module")
def server(model):
    with running(Answers(model)) as server:
        yield server


def png(pixels: np.ndarray | None = None, *, seed: int = 0) -> bytes:
    """Of a radiograph's greys."""
    if pixels is None:
        pixels = np.random.default_rng(seed).integers(0, 200, (90, 70), np.uint8)
    held = io.BytesIO()
    Image.fromarray(pixels).save(held, "PNG")
    return held.getvalue()


def upload(data: bytes, name: str = "chest.png") -> dict:
    return {"name": name, "data": base64.b64encode(data).decode()}


def ask(server: Server, method: str, path: str, body: bytes | None = None, **headers) -> tuple[int, bytes, dict]:
    connection = http.client.HTTPConnection(*server.server_address[:2], timeout=120)
    try:
        connection.request(method, path, body, headers)
        answer = connection.getresponse()
        return answer.status, answer.read(), dict(answer.headers)
    finally:
        connection.close()


def post(server: Server, path: str, content, **headers) -> tuple[int, dict]:
    body = content if isinstance(content, bytes) else json.dumps(content).encode()
    status, found, _ = ask(server, "POST", path, body, **{"Content-Type": "application/json", **headers})
    return status, json.loads(found)


def test_a_report_is_the_model_s_with_what_led_to_it(server, model):
    status, found = post(server, "/report", {"images": [upload(png()), upload(png(seed=1), "lateral.png")]})
    pixels = [np.asarray(Image.open(io.BytesIO(png(seed=seed)))) for seed in (0, 1)]
    (expected,) = Reporter.load(model, device="cpu").reports([pixels])
    assert status == 200 and found["report"] == expected.text and found["notice"] == NOTICE
    assert found["labels"] == list(expected.labels) and found["labels_from"] == "predicted"
    assert found["probabilities"] == pytest.approx(expected.probabilities, abs=2e-4)
    assert [view["image"] for view in found["views"]] == ["chest.png", "lateral.png"]
    for word in found["words"]:
        assert np.sum(word["attention"]) == pytest.approx(1, abs=5e-3)
    for view, own in zip(found["views"], pixels, strict=True):
        held = base64.b64decode(view["picture"].removeprefix("data:image/png;base64,"))
        assert np.array_equal(np.asarray(Image.open(io.BytesIO(held))), own)


def test_other_labels_gamma_and_beams_are_those_of_one_request(server):
    images = [upload(png())]
    _, before = post(server, "/report", {"images": images})
    what_if = {"labels": ["pleural effusion"], "gamma": 1, "beam_size": 1, "max_length": 5}
    _, other = post(server, "/report", {"images": images, **what_if})
    assert other["labels"] == ["Pleural Effusion"] and other["labels_from"] == "given" and other["gamma"] == 1
    assert len(other["words"]) <= 5 and set(other["words"][0]["classes"]) == {"Pleural Effusion"}
    assert other["log_prob"] != before["log_prob"] and other["probabilities"] == before["probabilities"]
    assert post(server, "/report", {"images": images})[1] == before


def test_the_words_come_as_the_search_writes_them(server):
    body = json.dumps({"images": [upload(png())], "stream": True, "beam_size": 1}).encode()
    status, found, headers = ask(server, "POST", "/report", body, **{"Content-Type": "application/json"})
    events = [json.loads(line) for line in found.splitlines()]
    words = [event["words"] for event in events if "words" in event]
    assert status == 200 and headers["Content-Type"] == "application/x-ndjson"
    assert [len(each) for each in words] == list(range(1, len(words) + 1)) and len(words) > 2
    final = [each["word"] for each in events[-1]["report"]["words"]]
    assert final[: len(words[-1])] == words[-1]


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def endless(rows: int) -> bytes:
    """A PNG of few bytes that says it has so many rows of 9,000 pixels."""
    head = struct.pack(">IIBBBBB", 9000, rows, 8, 0, 0, 0, 0)
    data = zlib.compress(bytes(9001))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def dicom(**values) -> bytes:
    pydicom = pytest.importorskip("pydicom")
    meta = pydicom.dataset.FileMetaDataset()
    meta.TransferSyntaxUID = values.pop("syntax", "1.2.840.10008.1.2.1")
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = "1.2.840.10008.5.1.4.1.1.1", "1.2.3"
    data = pydicom.Dataset()
    data.file_meta, data.preamble = meta, bytes(128)
    pixels = np.random.default_rng(0).integers(0, 200, (80, 70), np.uint8)
    given = {"Modality": "CR", "Rows": 80, "Columns": 70, "BitsAllocated": 8, "BitsStored": 8, "HighBit": 7}
    given |= {"SamplesPerPixel": 1, "PixelRepresentation": 0, "PhotometricInterpretation": "MONOCHROME2"}
    for name, value in {**given, "PixelData": pixels.tobytes(), **values}.items():
        setattr(data, name, value)
    held = io.BytesIO()
    data.save_as(held, enforce_file_format=True)
    return held.getvalue()


def test_dicom_is_read(server):
    status, found = post(server, "/report", {"images": [upload(dicom(), "IM0001"), upload(dicom(), "b.dcm")]})
    assert status == 200 and [view["size"] for view in found["views"]] == [[80, 70], [80, 70]]


def gif() -> bytes:
    held = io.BytesIO()
    Image.fromarray(np.zeros((90, 90), np.uint8)).save(held, "GIF")
    return held.getvalue()


@pytest.mark.parametrize(
    ("content", "status", "line"),
    [
        (b"{", 400, "the request is no JSON: "),
        (b"\xff{}", 400, "the request is no text in UTF-8"),
        (b"[" * 100_000, 400, "lists or objects within each other"),
        (b'{"images": 1, "images": 2}', 400, "'images' stands twice"),
        ([], 400, "the request: "),
        ({}, 400, "images: Field required"),
        ({"images": []}, 400, "images: List should have at least 1 item"),
        ({"images": [upload(b"")] * 9}, 400, "images: List should have at most 8 items"),
        ({"images": [{"name": "a"}]}, 400, "images.0.data: Field required"),
        ({"images": [upload(png())], "beams": 3}, 400, "beams: no such key"),
        ({"images": [upload(png())], "beam_size": 11}, 400, "beam_size: Input should be less than or equal to 10"),
        ({"images": [upload(png())], "gamma": "7"}, 400, "gamma: Input should be a valid integer"),
        ({"images": [upload(png())], "labels": 3}, 400, "labels: "),
        ({"images": [upload(png())], "gamma": 29}, 422, "gamma 29 must lie between 1 and 28"),
        ({"images": [upload(png())], "labels": ["Edma"]}, 422, "labels: no observation 'Edma'"),
        ({"images": [upload(png())], "labels": []}, 422, "labels: no observation is named"),
        ({"images": [{"name": "a.png", "data": "no base64!"}]}, 422, "a.png: not base64"),
        ({"images": [upload(b"", "a.png")]}, 422, "a.png: an empty file"),
        ({"images": [upload(b"a text", "/home/me/../a.png")]}, 422, "a.png: neither PNG, JPEG nor DICOM"),
        ({"images": [upload(b"MZ", "C:\\Users\\me\\a.exe")]}, 422, "a.exe: neither PNG, JPEG nor DICOM"),
        ({"images": [upload(b"<svg/>", "<b>\n.svg")]}, 422, "<b>.svg: neither PNG, JPEG nor DICOM"),
        ({"images": [upload(gif(), "a.gif")]}, 422, "a.gif: neither PNG, JPEG nor DICOM"),
        ({"images": [upload(png()[:900], "a.png")]}, 422, "a.png: broken image"),
        ({"images": [upload(b"x", "a.dcm")]}, 422, "a.dcm: "),
        ({"images": [upload(b"x", "")]}, 422, "image 1: neither"),
        ({"images": [upload(endless(8000), "a.png")]}, 422, "a.png: 8,000 x 9,000 pixels, more than 30,000,000"),
        ({"images": [upload(endless(80000), "a.png")]}, 422, "a.png: broken image: Image size (720000000 pixels)"),
        ({"images": [upload(dicom(Rows=9000, Columns=9000), "a.dcm")]}, 422, "a.dcm: 9,000 x 9,000 pixels, more than"),
        ({"images": [upload(dicom(syntax=DEFLATED))]}, 422, "chest.png: deflated DICOM: save it without"),
        ({"images": [upload(dicom(syntax=DEFLATED)[132:], "a.dcm")]}, 422, "a.dcm: deflated DICOM: save it without"),
        ({"images": [upload(dicom(BodyPartExamined="KNEE"), "k.dcm")]}, 422, "k.dcm: body part KNEE is not the chest"),
        ({"images": [upload(png(np.full((90, 90), 9, np.uint8)), "a.png")]}, 422, "a.png: no chest radiograph: "),
    ],
)
def test_a_mistake_is_one_line_without_a_path_and_the_server_lives_on(server, content, status, line):
    began = time.monotonic()
    found, answer = post(server, "/report", content)
    assert time.monotonic() - began < serve.SILENCE / 2  # nobody waits for bytes that have come already
    assert (found, list(answer)) == (status, ["error"]) and answer["error"].startswith(line)
    assert "\n" not in answer["error"] and len(answer["error"]) < 500
    assert not re.search(r"/tmp|/home|/Users|xpronet-|site-packages", answer["error"])
    assert ask(server, "GET", "/about")[0] == 200


def test_nothing_of_a_study_stays_on_the_disk(server, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    post(server, "/report", {"images": [upload(png())]})
    post(server, "/report", {"images": [upload(png()[:500])]})
    assert list(tmp_path.iterdir()) == []


def test_no_answer_has_a_path_of_this_machine(server, model):
    """Nor has a word of the page; nor does a failure of the server's own say more than that."""
    said = [ask(server, "GET", path)[1].decode() for path in ("/", "/about", "/examples")]
    said.append(json.dumps(post(server, "/report", {"images": [upload(png())]})[1]))
    for text in said:
        assert str(model) not in text and tempfile.gettempdir() not in text and str(Path.home()) not in text


def test_a_failure_of_the_server_s_own_says_no_more_than_that(caplog):
    class Failing:
        def report(self, asked):
            raise RuntimeError("/home/me/secret.py: no idea")

    with running(Failing()) as server:
        status, found = post(server, "/report", {"images": [upload(b"")]})
        assert status == 500 and found == {"error": "the server has failed at this study; its terminal says why"}
    assert "secret.py" in caplog.text


def test_paths_and_names():
    assert (
        without_paths("/a/b c/d.png: no; (/tmp/x/y/z.dcm) and/or w/o PA/lateral")
        == "b c/d.png: no; (z.dcm) and/or w/o PA/lateral"
    )
    assert shown_name("../../etc/passwd") == "passwd" and shown_name("a\x00\x1b[1m\u202eb") == "a[1mb"
    assert len(shown_name("n" * 500)) == 80


def test_only_its_own_page_may_ask(server):
    """Neither another site in the same browser, nor one whose name was bent to this address."""
    body = {"images": [upload(png())], "max_length": 1}
    port = server.server_address[1]
    for origin in (
        "http://evil.example",
        f"http://127.0.0.1:{port + 1}",
        "null",
        "http://[",
        f"http://localhost:{port}",
    ):
        status, found = post(server, "/report", body, Origin=origin)
        assert (status, found["error"]) in ((403, "only this server's own page may ask it"), (421, found["error"]))
    for fetched in ("cross-site", "same-site"):
        assert post(server, "/report", body, **{"Sec-Fetch-Site": fetched})[0] == 403
    for host in (
        "evil.example",
        f"evil.example:{port}",
        "127.0.0.1.evil.example",
        "localhost.evil.example",
        "",
        "[::1",
    ):
        for path in ("/", "/about", "/examples"):
            assert ask(server, "GET", path, Host=host)[0] == 421
        assert post(server, "/report", body, Host=host)[0] == 421
    assert post(server, "/report", body, **{"Content-Type": "text/plain"})[0] == 415
    for host in (f"localhost:{port}", f"127.0.0.1:{port}", f"[::1]:{port}"):
        assert post(server, "/report", body, Host=host, Origin=f"http://{host}")[0] == 200


def test_the_page_may_ask_nobody_else(server):
    status, body, headers = ask(server, "GET", "/")
    page, policy = body.decode(), headers["Content-Security-Policy"]
    assert status == 200 and "default-src 'none'" in policy and "connect-src 'self'" in policy
    assert "unsafe" not in policy and "http:" not in policy and "frame-ancestors 'none'" in policy
    assert not re.findall(r"https?:|//cdn|@import|innerHTML|@LOOK@|\son\w+=|\sstyle=", page)
    assert (headers["X-Content-Type-Options"], headers["Cache-Control"]) == ("nosniff", "no-store")
    assert "Python" not in headers["Server"]


def test_there_is_no_other_address(server):
    for path in ("/x", "/../pyproject.toml", "/..%2f..%2fetc/passwd", "/report", "/data/", "/index.html"):
        assert ask(server, "GET", path)[0] == 404
    assert post(server, "/about", {})[0] == 404
    assert ask(server, "PUT", "/")[0] == 501 and ask(server, "GET", "/?x=1")[0] == 200


def raw(server: Server, text: bytes) -> bytes:
    with socket.create_connection(server.server_address[:2], timeout=30) as connection:
        connection.sendall(text)
        return b"".join(iter(lambda: connection.recv(2**16), b""))


def test_requests_have_a_size_and_a_time(server, monkeypatch):
    head = b"POST /report HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
    monkeypatch.setattr(serve, "BODY", 1000)
    status, found = post(server, "/report", {"images": [upload(bytes(1000))]})
    assert status == 413 and found["error"] == "more than 32 MB of images in one study: send fewer"
    assert b" 411 " in raw(server, head + b"\r\n") and b" 411 " in raw(server, head + b"Content-Length: -5\r\n\r\n")
    assert b'"error"' in raw(server, b"nonsense\r\n\r\n") and b" 501 " in raw(server, b"NONSENSE / HTTP/1.1\r\n\r\n")
    monkeypatch.setattr(serve.Handler, "timeout", 0.2)
    assert b" 408 " in raw(server, head + b"Content-Length: 900\r\n\r\n{")
    monkeypatch.setattr(serve, "PATIENCE", 0)
    assert b" 408 " in raw(server, head + b"Content-Length: 900\r\n\r\n{")
    assert ask(server, "GET", "/about")[0] == 200


def test_fifty_at_once_are_served_or_refused_clearly(server):
    body = {"images": [upload(png())], "beam_size": 1}
    with ThreadPoolExecutor(50) as pool:
        found = list(pool.map(lambda _: post(server, "/report", body), range(50)))
    served = [answer for status, answer in found if status == 200]
    assert len(served) >= WAITING + 1 and all(answer == served[0] for answer in served)
    assert [answer for status, answer in found if status != 200] == [{"error": BUSY}] * (50 - len(served))
    assert post(server, "/report", body)[0] == 200


class Slow:
    """Writes a word each time it may, for ever."""

    def __init__(self):
        self.started = self.ended = 0

    def report(self, asked, watch):
        self.started += 1
        try:
            while True:
                time.sleep(0.01)
                watch(["the"])
        finally:
            self.ended += 1


def test_who_waits_is_told_and_who_has_left_is_not_waited_for(monkeypatch):
    """Else the next what-if waits for all before it, which nobody will read."""
    monkeypatch.setattr(serve, "TICK", 0.05)
    slow = Slow()
    with running(slow, waiting=1) as server:
        body = json.dumps({"images": [upload(b"")], "stream": True}).encode()
        text = b"POST /report HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        text += b"Content-Length: %d\r\n\r\n" % len(body) + body
        first, second = (socket.create_connection(server.server_address[:2], timeout=30) for _ in range(2))
        first.sendall(text)
        while b'"words"' not in first.recv(2**16):
            pass
        second.sendall(text)
        while b'{"waiting": 1}' not in second.recv(2**16):
            pass
        status, found, headers = ask(server, "POST", "/report", body, **{"Content-Type": "application/json"})
        assert status == 503 and json.loads(found) == {"error": BUSY} and headers["Retry-After"] == "2"
        first.close()
        while b'"words"' not in second.recv(2**16):
            pass
        assert (slow.started, slow.ended) == (2, 1)
        second.close()
        end = time.monotonic() + 30
        while slow.ended < 2:
            assert time.monotonic() < end
            time.sleep(0.02)


def resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="reads /proc, which Linux has")
def test_requests_leave_nothing_in_memory(server):
    """A picture of a detector is 10 MB and more: kept once per request, it would end the server in an hour."""
    large = upload(png(np.random.default_rng(0).integers(0, 200, (700, 600), np.uint8)))  # 0.4 MB, and 0.6 in base64
    body = {"images": [large], "max_length": 1, "beam_size": 1}
    for _ in range(15):
        assert post(server, "/report", body)[0] == 200
    before = resident()
    for _ in range(40):
        assert post(server, "/report", body)[0] == 200
    assert resident() - before < 10 * MEGABYTE


def test_examples_are_drawn_for_the_phantom_s_model_alone(server, tmp_path):
    found = json.loads(ask(server, "GET", "/examples")[1])
    assert len(found["studies"]) == trained_with.EXAMPLES and found["source"].startswith("Drawn, not photographed")
    images = [
        {**image, "data": image["data"].removeprefix("data:image/png;base64,")}
        for image in found["studies"][0]["images"]
    ]
    status, written = post(server, "/report", {"images": images, "max_length": 2})
    assert status == 200 and [view["image"] for view in written["views"]] == ["frontal.png", "lateral.png"]
    assert ask(server, "GET", "/examples")[1] == json.dumps(found).encode()
    other = Answers(make_model(tmp_path, sorted(["<unk>", *(f"word{n}" for n in range(30))]))).examples()
    assert other["studies"] == [] and other["source"].startswith("No examples: ")


@pytest.fixture
def beside(made):
    """A model in the made-up data folder, whose features are of its classifier."""
    torch.manual_seed(6)
    folder = make_model(Path("data"), sorted(["<unk>", *(f"word{n}" for n in range(30))]), crop=32)
    classifier, _ = network.load(folder / "classifier")
    plain = torchvision.models.resnet18(num_classes=14)
    plain.load_state_dict(classifier.network.state_dict())
    plain.fc = torch.nn.Identity()
    with torch.inference_mode():
        rows = [plain.eval()(normalised(np.stack(made.images[id]))).mean(dim=0).numpy() for id in made.ids("train")]
    np.save("data/features/visual.npy", np.stack(rows))
    return made, folder


def test_the_nearest_train_studies_are_those_of_the_same_network(beside):
    made, folder = beside
    found = Answers(folder)
    assert found.about()["nearest"]
    images = [upload(png(pixels)) for pixels in made.images["train-5"]]
    nearest = found.nearest(answers.request({"images": images}))["studies"]
    assert len(nearest) == answers.NEAREST and nearest[0]["id"] == "train-5"
    assert nearest[0]["similarity"] == pytest.approx(1, abs=1e-4) and nearest[0]["report"] == made.raw["train-5"]
    assert [each["similarity"] for each in nearest] == sorted((each["similarity"] for each in nearest), reverse=True)
    held = base64.b64decode(nearest[0]["images"][0].removeprefix("data:image/png;base64,"))
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(held))), made.images["train-5"][0])
    assert [study["id"] for study in found.examples()["studies"]] == made.ids("test")[: trained_with.EXAMPLES]
    np.save("data/features/visual.npy", np.random.default_rng(0).random((12, 512), np.float32))
    with pytest.raises(ValueError, match="of another network than this model's classifier"):
        Answers(folder).nearest(answers.request({"images": images}))


def test_a_model_without_prototypes_has_none_to_choose(tmp_path):
    model = XProNet(ModelConfig(3, "resnet18", 16, 16, 2, 1, cmpnet=False)).eval()
    card = checkpoint.ModelCard(Vocabulary(["<unk>", "clear", "lungs"]), CONDITIONS, "iu_xray", 64, 2, 5)
    checkpoint.save(tmp_path / "model", model, card)
    found = Answers(tmp_path / "model")
    assert (found.about()["prototypes"], found.about()["gamma"], found.about()["classifier"]) == (0, None, False)
    written = found.report(answers.request({"images": [upload(png())]}))
    assert written["labels_from"] == "none" and written["probabilities"] is written["patches"] is None


def test_without_train_studies_beside_it_none_are_compared(server):
    assert json.loads(ask(server, "GET", "/about")[1])["nearest"] is False
    status, found = post(server, "/nearest", {"images": [upload(png())]})
    assert status == 422 and found == {"error": "no train studies lie beside this model"}


def test_what_cannot_be_served_is_one_line(server, model, tmp_path):
    port = str(server.server_address[1])
    for words, line in (
        (["--model", str(tmp_path / "gone")], "gone: no such folder: name a model folder"),
        (["--model", str(model), "--port", port], f"127.0.0.1:{port}: Address already in use: name another --port"),
        (["--model", str(model), "--host", "no.such.host.invalid", "--port", "0"], "name another --port or --host"),
    ):
        done = CliRunner().invoke(app, ["serve", *words])
        assert done.exit_code == 1 and line in str(done.exception) and "\n" not in str(done.exception)


@needs_chromium
def test_a_browser_writes_explains_and_rewrites(server, tmp_path):
    """As a person does it, in a real one: an example, a word, a what-if, a file of one's own, a mistake."""
    with running_chromium(tmp_path) as browser:
        browser.look(width=1200, height=900)
        browser.open(server.address)
        browser.until("document.querySelectorAll('#examples button').length")
        browser.point("#examples li:nth-child(2) button", click=True)
        browser.until("document.querySelectorAll('#report button').length && !document.getElementById('saves').hidden")
        assert browser.run("document.getElementById('notice').textContent") == NOTICE
        text = browser.run("shown.text")
        written = "document.getElementById('report').textContent"
        assert browser.run(written).rstrip(".") == text.rstrip(".")  # what was cut has no last point
        assert browser.run("document.getElementById('whole').textContent") == text
        inked = "[...document.querySelectorAll('#views canvas')].map(c => c.getContext('2d')"
        inked += ".getImageData(0, 0, c.width, c.height).data.some(v => v))"
        assert browser.run(inked) == [False, False]
        browser.point("#report button[data-place='1']")
        browser.until("!!document.querySelector('#word table')")
        assert browser.run(inked)[browser.run("shown.words[1].patch[0]")]
        assert browser.run("document.querySelector('#word th').textContent === shown.words[1].word")
        browser.run("document.querySelector('#report button').focus()")
        browser.press("ArrowRight")
        assert browser.run("document.activeElement.dataset.place") == "1"
        ticked = "[...document.querySelectorAll('#labels input:checked')].map(box => box.value)"
        assert browser.run(ticked) == browser.run("first.labels")
        browser.point("#labels label:nth-child(10) input", click=True)
        browser.until("!document.getElementById('compared').hidden")
        assert browser.run(f"shown.labels_from === 'given' && String({ticked}) === String(shown.labels)")
        changed = browser.run("shown.text !== first.text")
        assert browser.run("!!document.querySelector('#report ins, #compared del')") == changed
        Path(tmp_path, "own.png").write_bytes(png())
        Path(tmp_path, "<img src=x onerror=alert(1)>.png").write_bytes(b"no image")
        browser.choose_files("#files", tmp_path / "own.png")
        browser.until("document.querySelector('figcaption')?.textContent === 'own.png'")
        before = browser.run(written)
        browser.choose_files("#files", tmp_path / "<img src=x onerror=alert(1)>.png")
        browser.until("document.getElementById('status').classList.contains('error')")
        said = browser.run("document.getElementById('status').textContent")
        assert said == "<img src=x onerror=alert(1)>.png: neither PNG, JPEG nor DICOM"
        assert browser.run("document.querySelectorAll('img[src=x]').length") == 0
        assert browser.run(written) == before  # the report of the study before stays
        asked = [each for each in browser.said if each["method"] == "Network.requestWillBeSent"]
        addresses = {each["params"]["request"]["url"] for each in asked}
        assert all(address.startswith((server.address, "data:", "blob:")) for address in addresses)
        said = [each for each in browser.said if each not in asked]  # by the browser; its advice is of this test's own
        assert not [each for each in said if each["params"].get("entry", {}).get("level") != "warning"]


# The least contrast of a text with what is behind it, and where: WCAG 2.1, 1.4.3.
CONTRAST = """(() => {
  const linear = v => v <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4;
  const light = colour => {
    const [r, g, b] = colour.match(/[\\d.]+/g).map(v => linear(v / 255));
    return .2126 * r + .7152 * g + .0722 * b;
  };
  const ground = element => {
    for (; element; element = element.parentElement) {
      const colour = getComputedStyle(element).backgroundColor;
      if (colour !== 'rgba(0, 0, 0, 0)') return colour;
    }
    return 'rgb(255, 255, 255)';
  };
  let worst = [99, ''];
  for (const element of document.body.querySelectorAll('*')) {
    const own = [...element.childNodes].some(node => node.nodeType === 3 && node.textContent.trim());
    if (!own || !element.checkVisibility()) continue;
    const [a, b] = [light(getComputedStyle(element).color), light(ground(element))];
    const ratio = (Math.max(a, b) + .05) / (Math.min(a, b) + .05);
    if (ratio < worst[0]) worst = [ratio, element.outerHTML.slice(0, 80)];
  }
  return worst;
})()"""


@needs_chromium
@pytest.mark.parametrize("dark", [False, True])
def test_text_can_be_read_and_controls_have_names(server, tmp_path, dark):
    """WCAG 2.1 AA: contrast of 4.5, a name for whatever is operated, nothing beyond a narrow screen's edge."""
    with running_chromium(tmp_path) as browser:
        browser.look(width=380, height=800, dark=dark)
        browser.open(server.address)
        browser.until("document.querySelectorAll('#examples button').length")
        browser.point("#examples button", click=True)
        browser.until("!document.getElementById('settings').hidden")
        browser.point("#report button[data-place='1']")
        assert browser.run("document.documentElement.scrollWidth <= 380")
        worst = browser.run(CONTRAST)
        assert worst[0] >= 4.5, worst
        browser.call("Accessibility.enable")
        nodes = browser.call("Accessibility.getFullAXTree")["nodes"]
        operated = [
            n for n in nodes if n.get("role", {}).get("value") in ("button", "checkbox", "spinbutton", "combobox")
        ]
        assert len(operated) > 20 and all(n["name"]["value"].strip() for n in operated)
