"""Layers from a Hub on loopback, through the real huggingface_hub client."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from napari_llm4seg.errors import Cancelled, CheckpointError, ConfigError, InputError
from napari_llm4seg.files import cache_folder
from napari_llm4seg.models import partial
from napari_llm4seg.models.inventory import resolve_layer
from napari_llm4seg.models.packs import find_pack, read_pack, tensors_digest
from napari_llm4seg.models.registry import LANGUAGE_MODELS
from napari_llm4seg.models.sources import Fetched, fetch
from tests.models.hub_server import Hub, Repo, use_real_client
from tests.models.made_models import config_like, gguf_file, layer_of, safetensors_files

QWEN = config_like("qwen2.5-coder-1.5b")
TOKEN = "hf_averysecrettoken1234567890"


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    monkeypatch.setenv("LLM4SEG_CACHE", str(tmp_path / "cache"))
    with Hub() as server:
        use_real_client(server, monkeypatch, tmp_path / "hf")
        yield server


def n_bytes(config: dict[str, Any], index: int, dtype: torch.dtype = torch.bfloat16) -> int:
    return sum(tensor.nbytes for tensor in layer_of(config, index, dtype).values())


def taken(fetched: Fetched, config: dict[str, Any], dtype: torch.dtype = torch.bfloat16) -> None:
    """Assert that a fetched layer has the source's very bits, and that configs find it."""
    pack = find_pack(fetched.ref)
    assert tensors_digest(pack.tensors) == tensors_digest(layer_of(config, fetched.ref.index, dtype))
    assert pack.spec.hidden == config["hidden_size"]
    assert read_pack(fetched.folder).ref == fetched.ref


def refused(*arguments: Any, **options: Any) -> str:
    with pytest.raises(CheckpointError) as caught:
        fetch(*arguments, **options)
    assert "\n" not in str(caught.value)
    assert TOKEN not in str(caught.value)
    return str(caught.value)


# --- what is fetched --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "dtype"),
    [
        ("deepseek-r1-distill-qwen-1.5b", torch.bfloat16),
        ("qwen2.5-coder-1.5b", torch.float16),
        ("llama-3.2-1b", torch.float32),
    ],
)
def test_only_the_header_and_the_layer_are_fetched(hub: Hub, name: str, dtype: torch.dtype) -> None:
    config = config_like(name)
    files = safetensors_files(config, dtype=dtype)
    repo = hub.repos["org/model"] = Repo.of(files)
    (fetched,) = fetch("hf:org/model", [4])
    taken(fetched, config, dtype)
    assert fetched.new
    assert (fetched.ref.repository, fetched.ref.revision) == ("org/model", repo.branches["main"])
    layer = n_bytes(config, 4, dtype)
    small = len(files["config.json"]) + len(files["LICENSE"])
    assert layer < hub.sent < layer + partial.GAP + small + 10_000
    assert hub.sent < len(files["model.safetensors"]) / 3
    assert (fetched.folder / "LICENSE").read_text() == "be kind"
    assert read_pack(fetched.folder).licence == "mit"
    assert not list((cache_folder() / "partial").glob("*"))


def test_a_sharded_model(hub: Hub) -> None:
    files = safetensors_files(QWEN, shards=3)
    hub.repos["org/model"] = Repo.of(files)
    several = fetch("hf:org/model", [3, 0, 5])
    assert [fetched.ref.index for fetched in several] == [3, 0, 5]
    for fetched in several:
        taken(fetched, QWEN)
    hub.forget()
    taken(fetch("hf:org/model", [1])[0], QWEN)
    assert hub.sent < n_bytes(QWEN, 1) + 2 * partial.GAP + len(files["model.safetensors.index.json"]) + 10_000


def test_fetching_again_gives_the_same_file_and_asks_nothing(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.repos["org/model"] = Repo.of(safetensors_files(QWEN))
    (first,) = fetch("hf:org/model", [2])
    hub.forget()
    (again,) = fetch("hf:org/model", [2])
    assert (again.ref, again.new) == (first.ref, False)
    assert not hub.log
    monkeypatch.setenv("LLM4SEG_CACHE", str(cache_folder() / "other"))
    assert fetch("hf:org/model", [2])[0].ref == first.ref
    assert hub.sent > n_bytes(QWEN, 2)


def test_revisions_are_kept_apart(hub: Hub) -> None:
    old, new = safetensors_files(QWEN), safetensors_files(QWEN, dtype=torch.float16)
    repo = hub.repos["org/model"] = Repo.of(old)
    first = repo.branches["main"]
    (before,) = fetch("hf:org/model", [2])
    second = repo.push(new)
    (after,) = fetch("hf:org/model", [2], revision="main")
    assert (before.ref.revision, after.ref.revision) == (first, second)
    assert before.ref.sha256 != after.ref.sha256
    taken(after, QWEN, torch.float16)
    assert resolve_layer(f"hf:org/model@{first}", 2) == before.ref
    assert find_pack(before.ref).ref == before.ref
    assert fetch("hf:org/model", [2], revision="main")[0].new is False
    with pytest.raises(ConfigError, match="two revisions"):
        fetch("hf:org/model@main", [2], revision=first)


def test_the_registrys_names_fetch_their_own_repositories(hub: Hub) -> None:
    model = LANGUAGE_MODELS["deepseek-r1-distill-qwen-1.5b"]
    config = config_like(model.name, layers=28)
    hub.repos[model.repository] = Repo.of(safetensors_files(config), licence="other")
    (fetched,) = fetch(model.name)
    assert (fetched.ref.repository, fetched.ref.index) == (model.repository, 27)
    taken(fetched, config)
    assert resolve_layer(model.name) == fetched.ref
    assert read_pack(fetched.folder).licence == "MIT"
    assert "layers 0 to 27" in refused(model.name, [28])


def test_a_known_sha256_is_demanded(hub: Hub) -> None:
    hub.repos["org/model"] = Repo.of(safetensors_files(QWEN))
    assert "refused" in refused("hf:org/model", [2], sha256="0" * 64)
    with pytest.raises(CheckpointError, match="not at hand"):
        resolve_layer("hf:org/model", 2)
    (fetched,) = fetch("hf:org/model", [2])
    assert fetch("hf:org/model", [2], sha256=fetched.ref.sha256)[0].new is False
    assert "was asked for" in refused("hf:org/model", [2], sha256="0" * 64)


# --- GGUF -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", ["qwen2.5-coder-1.5b", "smollm2-135m"])
def test_a_layer_of_a_gguf_file(hub: Hub, tmp_path: Path, family: str) -> None:
    config = config_like(family)
    layers = {index: layer_of(config, index, torch.float32) for index in range(6)}
    data = gguf_file(tmp_path / "made.gguf", config, layers, vocabulary=30_000).read_bytes()
    hub.repos["org/made-GGUF"] = Repo.of({"made-q8_0.gguf": data})
    (fetched,) = fetch("hf:org/made-GGUF", [4])
    pack = read_pack(fetched.folder)
    assert pack.spec.rope_theta == config["rope_parameters"]["rope_theta"]
    for name, tensor in pack.tensors.items():
        torch.testing.assert_close(tensor.float(), layers[4][name], rtol=0.01, atol=0.01)
    assert {t.dtype for t in pack.tensors.values() if t.ndim == 2} == {torch.float16}
    # the header is read by doubling from 256 KiB on, and is 0.7 MB here
    assert hub.sent < 1.1 * n_bytes(config, 4, torch.float32) / 4 * 1.07 + (1 << 20) + 10_000
    assert hub.sent < len(data) / 2


def test_a_file_that_is_mostly_the_layer_comes_whole_and_checked(hub: Hub, tmp_path: Path) -> None:
    config = config_like("qwen2.5-coder-1.5b")
    layers = {4: {name: torch.cat([t] * 1) for name, t in layer_of(config, 4, torch.float32).items()}}
    path = gguf_file(tmp_path / "made.gguf", config, layers)
    hub.repos["org/one"] = Repo.of({"a.gguf": path.read_bytes(), "b.gguf": b"GGUF"})
    assert "hf:org/one/a.gguf" in refused("hf:org/one", [4])
    fetched = fetch("hf:org/one/a.gguf", [4])[0]
    assert set(read_pack(fetched.folder).tensors) == set(layers[4])


def test_what_differs_from_the_hubs_digest_is_refused(hub: Hub) -> None:
    # a model of one layer and little else, so that it comes whole
    config = config_like("qwen2.5-coder-1.5b", layers=1) | {"intermediate_size": 8192}
    hub.repos["org/model"] = Repo.of(safetensors_files(config))
    hub.spoil = True
    assert "digests to" in refused("hf:org/model", [0])
    assert not [path for path in (cache_folder() / "partial").rglob("*") if path.is_file()]
    hub.spoil = False
    taken(fetch("hf:org/model", [0])[0], config)


# --- broken downloads -------------------------------------------------------------------------------------------------


def test_a_broken_connection_goes_on_where_it_stopped(hub: Hub) -> None:
    hub.repos["org/model"] = Repo.of(safetensors_files(QWEN))
    hub.cuts = [1 << 20, 100_000, 0]  # the header's answer stays whole
    (fetched,) = fetch("hf:org/model", [4])
    taken(fetched, QWEN)
    starts = [int(str(asked.range).split("=")[1].split("-")[0]) for asked in hub.asked("storage")]
    assert starts[0] == 0
    first = starts[1]
    # broken after 100,000 bytes, then at once, then whole
    assert starts[2:] == [first + 100_000, first + 100_000]
    assert len({str(asked.range).split("-")[1] for asked in hub.asked("storage")[1:]}) == 1


def test_a_later_call_resumes_what_an_earlier_one_left(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.repos["org/model"] = Repo.of(safetensors_files(QWEN))
    monkeypatch.setattr(partial, "RETRIES", 1)
    hub.cuts = [1 << 20, 300_000, 0, 0, 0]
    assert "goes on from what was fetched" in refused("hf:org/model", [4])
    kept = sum(path.stat().st_size for path in (cache_folder() / "partial").rglob("*-*") if path.is_file())
    assert kept >= 300_000
    hub.cuts = []
    hub.forget()
    taken(fetch("hf:org/model", [4])[0], QWEN)
    (again,) = hub.asked("storage")
    assert hub.sent < n_bytes(QWEN, 4) - 300_000 + 10_000
    start, stop = map(int, str(again.range).removeprefix("bytes=").split("-"))
    assert stop + 1 - start == n_bytes(QWEN, 4) - 300_000


def test_parts_of_another_version_are_thrown_away(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    repo = hub.repos["org/model"] = Repo.of(safetensors_files(QWEN))
    monkeypatch.setattr(partial, "RETRIES", 0)
    hub.cuts = [1 << 20, 300_000, 0]
    refused("hf:org/model", [4])
    other = config_like("qwen2.5-coder-1.5b") | {"rms_norm_eps": 1e-4}  # other values under the same names
    repo.push(safetensors_files(other, dtype=torch.float16))
    hub.cuts = []
    taken(fetch("hf:org/model", [4])[0], other, torch.float16)


def test_a_busy_hub_is_asked_again(hub: Hub) -> None:
    hub.repos["org/model"] = Repo.of(safetensors_files(QWEN))
    # about (not repeated), then each of the next requests fails once
    fetch("hf:org/model", [1])
    hub.busy = [503]
    assert "status 503" in refused("hf:org/model", [2])
    from napari_llm4seg.models.hub import open_repository
    from napari_llm4seg.models.remote import fetch_layers

    repository = open_repository("org/model")
    hub.busy = [503, 429]
    (layer,) = fetch_layers(repository, [2], None, partial.Meter())
    assert tensors_digest(layer.tensors) == tensors_digest(layer_of(QWEN, 2))


def test_cancelling_keeps_what_came(hub: Hub) -> None:
    hub.repos["org/model"] = Repo.of(safetensors_files(QWEN))
    told: list[tuple[int, int, str]] = []

    def progress(done: int, total: int, message: str) -> None:
        told.append((done, total, message))

    with pytest.raises(Cancelled):
        fetch("hf:org/model", [4], progress=progress, cancel=lambda: bool(told) and told[-1][0] > 400_000)
    kept = sum(path.stat().st_size for path in (cache_folder() / "partial").rglob("*-*") if path.is_file())
    assert 400_000 <= kept < n_bytes(QWEN, 4)
    hub.forget()
    taken(fetch("hf:org/model", [4], progress=progress)[0], QWEN)
    assert hub.sent < n_bytes(QWEN, 4) - 300_000
    done, total, message = told[-1]
    assert done == total
    assert message.endswith("MB")


def test_a_server_without_ranges_is_not_drained(hub: Hub) -> None:
    hub.repos["org/model"] = Repo.of(safetensors_files(QWEN))
    hub.ranges = False
    assert "does not answer byte ranges" in refused("hf:org/model", [4])


# --- who may ----------------------------------------------------------------------------------------------------------


def token_is_nowhere(*roots: Path) -> None:
    for root in roots:
        for path in root.rglob("*"):
            assert TOKEN not in path.name
            assert not path.is_file() or TOKEN.encode() not in path.read_bytes()


def test_a_gated_model_needs_a_token_that_has_access(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    model = LANGUAGE_MODELS["llama-3.2-1b"]
    config = config_like(model.name, layers=16)
    hub.repos[model.repository] = Repo.of(safetensors_files(config), gated=True)
    page = "https://huggingface.co/meta-llama/Llama-3.2-1B"
    message = refused(model.name)
    assert page in message
    assert "log in" in message
    hub.known = {TOKEN}
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    message = refused(model.name)
    assert page in message
    assert "no access" in message
    hub.accepted = {TOKEN}
    (fetched,) = fetch(model.name)
    taken(fetched, config)
    assert fetched.ref.index == 14
    # sent to the Hub, never to where it redirects
    assert all(asked.authorization == f"Bearer {TOKEN}" for asked in hub.asked("hub")[-4:])
    assert hub.asked("storage")
    assert {asked.authorization for asked in hub.asked("storage")} == {None}
    token_is_nowhere(tmp_path)
    assert TOKEN not in caplog.text


def test_a_wrong_token_is_named_as_such(hub: Hub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    hub.repos["org/model"] = Repo.of(safetensors_files(QWEN), gated=True)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    message = refused("hf:org/model", [1])
    assert "refused the token" in message
    assert "https://huggingface.co/org/model" in message
    token_is_nowhere(tmp_path)


@pytest.mark.parametrize("token", ["hf_ümlaut", "hf_\x00", "hf_\x1b[2J"])
def test_a_token_that_no_header_takes(hub: Hub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, token: str) -> None:
    from huggingface_hub import constants

    hub.repos["org/model"] = Repo.of(safetensors_files(QWEN))
    (tmp_path / "hf").mkdir()
    (tmp_path / "hf" / "token").write_text(token)
    assert str(tmp_path) in constants.HF_TOKEN_PATH
    message = refused("hf:org/model", [1])
    assert "The Hub's token holds a character" in message
    assert token not in message
    assert not hub.log


@pytest.mark.parametrize(
    ("name", "revision", "words"),
    [
        ("hf:org/nothing", None, "no such repository"),
        ("hf:org/private", None, "no such repository, or it is private"),
        ("hf:org/model", "nowhere", "no such revision"),
        ("hf:org/model/x.gguf", None, "no file 'x.gguf'"),
        ("hf:org/pickled", None, "pickled weights are not read"),
        ("hf:org/bare", None, "no config.json"),
        ("hf:org/foreign", None, "type 'bert'"),
        ("hf:org/eight", None, "stored as F8_E4M3"),
        ("hf:org/torn", None, "damaged or not safetensors"),
        ("hf:org/short", None, "lacks 'mlp.up_proj.weight'"),
        ("hf:org/lost", None, "lacks its own shard"),
        ("hf:org/wild", None, "holds a list; it needs a JSON object"),
    ],
)
def test_what_cannot_be_had_gives_one_line(hub: Hub, name: str, revision: str | None, words: str) -> None:
    from safetensors.torch import save

    whole = safetensors_files(QWEN)
    half = {f"model.layers.1.{n}": t for n, t in layer_of(QWEN, 1).items() if n != "mlp.up_proj.weight"}
    eight = {f"model.layers.1.{n}": t.to(torch.float8_e4m3fn) for n, t in layer_of(QWEN, 1).items()}
    sharded = safetensors_files(QWEN, shards=2)
    lost = {n: d for n, d in sharded.items() if not n.startswith("model-")}
    torn = (1 << 40).to_bytes(8, "little") + bytes(100)
    hub.repos = {
        "org/model": Repo.of(whole),
        "org/private": Repo.of(whole, private=True),
        "org/pickled": Repo.of({"config.json": whole["config.json"], "pytorch_model.bin": b"x"}),
        "org/bare": Repo.of({"model.safetensors": whole["model.safetensors"]}),
        "org/foreign": Repo.of(whole | {"config.json": b'{"model_type": "bert"}'}),
        "org/eight": Repo.of(whole | {"model.safetensors": save(eight)}),
        "org/torn": Repo.of(whole | {"model.safetensors": torn}),
        "org/short": Repo.of(whole | {"model.safetensors": save(half)}),
        "org/lost": Repo.of(lost),
        "org/wild": Repo.of(lost | {"model.safetensors.index.json": b"[1]"}),
    }
    message = refused(name, [1], revision=revision)
    assert words in message


def test_a_header_cannot_make_us_fetch_more_than_a_layer(hub: Hub) -> None:
    """Shapes are checked before a byte of a tensor is asked for."""
    files = safetensors_files(QWEN)
    wrong = json.loads(files["config.json"]) | {"intermediate_size": 256}
    hub.repos["org/model"] = Repo.of(files | {"config.json": json.dumps(wrong).encode()})
    assert "its config needs" in refused("hf:org/model", [1])
    assert hub.sent < partial.GAP + 10_000


def test_offline_what_was_fetched_works_and_the_rest_says_so(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    hub.repos["org/model"] = Repo.of(safetensors_files(QWEN))
    (fetched,) = fetch("hf:org/model", [4])
    hub.forget()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert fetch("hf:org/model", [4])[0].ref == fetched.ref
    taken(fetched, QWEN)
    assert "HF_HUB_OFFLINE" in refused("hf:org/model", [3])
    assert not hub.log


def test_a_branch_is_found_by_its_name_and_looked_up_anew(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    repo = hub.repos["org/model"] = Repo.of(safetensors_files(QWEN))
    repo.branches["v1"] = repo.branches["main"]
    (fetched,) = fetch("hf:org/model@v1", [4])
    assert resolve_layer("hf:org/model@v1", 4) == fetched.ref
    repo.branches["v1"] = repo.push(safetensors_files(QWEN, dtype=torch.float16))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert fetch("hf:org/model@v1", [4])[0].ref == fetched.ref
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    (moved,) = fetch("hf:org/model@v1", [4])
    assert moved.ref.revision == repo.branches["v1"]
    with pytest.raises(CheckpointError, match="several revisions"):
        resolve_layer("hf:org/model@v1", 4)


def test_a_model_that_the_hubs_own_tools_fetched_needs_no_network(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants, snapshot_download

    hub.repos["org/model"] = Repo.of(safetensors_files(QWEN, shards=2))
    (streamed,) = fetch("hf:org/model", [4])
    monkeypatch.setenv("LLM4SEG_CACHE", str(cache_folder() / "other"))
    snapshot_download("org/model")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    hub.forget()
    copied, another = fetch("hf:org/model", [4, 5])
    assert copied.ref == streamed.ref
    taken(another, QWEN)
    assert (copied.folder / "LICENSE").read_text() == "be kind"
    assert not hub.log


def test_two_at_once_fetch_once(hub: Hub) -> None:
    from concurrent.futures import ThreadPoolExecutor

    hub.repos["org/model"] = Repo.of(safetensors_files(QWEN))
    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(lambda _: fetch("hf:org/model", [4])[0], range(2))
    assert first.ref == second.ref
    assert sorted((first.new, second.new)) == [False, True]
    assert hub.sent < 1.5 * n_bytes(QWEN, 4)


def test_a_full_disk_is_named(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.repos["org/model"] = Repo.of(safetensors_files(QWEN))
    real = Path.open

    def full(self: Path, mode: str = "r", *arguments: Any, **options: Any) -> Any:
        if mode == "ab":
            raise OSError(28, "No space left on device")
        return real(self, mode, *arguments, **options)

    monkeypatch.setattr(Path, "open", full)
    with pytest.raises(InputError, match="No space left") as caught:
        fetch("hf:org/model", [4])
    assert "cannot be written" in str(caught.value)


def test_a_hub_out_of_reach(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    message = refused("hf:org/model", [1])
    assert "http://127.0.0.1:9" in message
    assert "HF_ENDPOINT" in message


def test_ranges_are_joined_where_a_request_costs_more_than_the_gap() -> None:
    assert partial.merge([(5, 9), (0, 5), (20, 30)], gap=0) == [(0, 9), (20, 30)]
    assert partial.merge([(0, 5), (8, 9), (30, 31)], gap=3) == [(0, 9), (30, 31)]
    assert partial.merge([(0, 9), (2, 3)], gap=0) == [(0, 9)]
    assert partial.merge([]) == []


def test_the_made_hub_digests_as_git_and_lfs_do(hub: Hub) -> None:
    """What the tests above rely on: the etags that the real Hub gives."""
    from huggingface_hub import get_hf_file_metadata, hf_hub_url

    files = safetensors_files(QWEN)
    hub.repos["org/model"] = Repo.of(files)
    large = get_hf_file_metadata(hf_hub_url("org/model", "model.safetensors"))
    assert large.etag == hashlib.sha256(files["model.safetensors"]).hexdigest()
    assert large.size == len(files["model.safetensors"])
    assert large.location.startswith(hub.storage)
    small = get_hf_file_metadata(hf_hub_url("org/model", "LICENSE"))
    # printf 'be kind' | git hash-object --stdin
    assert small.etag == "36cc10acd6d8759829d10a7986f382bda7e0e53f"
