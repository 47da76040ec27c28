"""Weights files: what loads, and what is said of files that do not."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tiny import TINY, tiny_model

from taptrv2_core import CheckpointError, Taptr, load_model, save_checkpoint


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    path = tmp_path / "weights.pt"
    save_checkpoint(tiny_model(), path)
    return path


def test_round_trip_in_half_precision(saved: Path) -> None:
    original, loaded = tiny_model(), load_model(saved, device="cpu", dtype="float32")
    assert loaded.trained
    assert loaded.config == TINY
    assert not loaded.training
    assert loaded.source == str(saved)
    for name, value in original.state_dict().items():
        expected = value.half().float() if value.is_floating_point() else value
        assert torch.equal(loaded.state_dict()[name], expected), name
    bytes_of = sum(p.numel() * 2 for p in original.parameters())
    assert saved.stat().st_size < 1.2 * bytes_of + 200_000  # tensors under two names are stored once


def test_input_size_can_be_chosen(saved: Path) -> None:
    assert load_model(saved, device="cpu", input_size=(96, 128)).config.input_size == (96, 128)
    with pytest.raises(ValueError, match="at least 32"):
        load_model(saved, device="cpu", input_size=(16, 128))


def test_missing_file_names_what_there_is(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"nowhere\.pt: no such file\. Give a checkpoint file or a shipped name"):
        load_model(tmp_path / "nowhere.pt")


def test_published_weights_are_not_shipped() -> None:
    with pytest.raises(CheckpointError, match=r"non-commercial research only.*download"):
        load_model("published")


def test_truncated_file(saved: Path) -> None:
    saved.write_bytes(saved.read_bytes()[:5000])
    with pytest.raises(CheckpointError, match=r"weights\.pt: cannot be read as a PyTorch checkpoint; it is damaged"):
        load_model(saved)


def test_file_of_another_kind(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("these are not weights")
    with pytest.raises(CheckpointError, match=r"notes\.txt: cannot be read"):
        load_model(path)


def test_files_that_run_code_are_not_run(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return (Path.touch, (tmp_path / "sprung",))

    torch.save({"model": Trap()}, tmp_path / "trap.pt")
    with pytest.raises(CheckpointError, match="cannot be read") as caught:
        load_model(tmp_path / "trap.pt")
    assert "load failed" not in str(caught.value)  # PyTorch goes on with how to run what is in the file
    assert not (tmp_path / "sprung").exists()


def test_other_contents(tmp_path: Path) -> None:
    torch.save([1, 2], tmp_path / "list.pt")
    with pytest.raises(CheckpointError, match="holds a list"):
        load_model(tmp_path / "list.pt")
    torch.save({"optimizer": {}}, tmp_path / "dict.pt")
    with pytest.raises(CheckpointError, match=r"no weights in it.*found \['optimizer'\]"):
        load_model(tmp_path / "dict.pt")


def change(path: Path, edit: str) -> None:
    content = torch.load(path, weights_only=True)
    state, name = content["model"], "transformer.level_embed"
    if edit == "missing":
        del state[name]
    elif edit == "unexpected":
        state["extra.weight"] = torch.zeros(1)
    elif edit == "shape":
        state[name] = torch.zeros(4, 5)
    elif edit == "nan":
        state[name] = torch.full((4, 32), float("nan"))
    elif edit == "config":
        content["config"]["flux"] = 3
    elif edit == "no size":
        del content["config"]["channels"]
    torch.save(content, path)


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        ("missing", r"1 missing: transformer\.level_embed"),
        ("unexpected", r"1 unexpected: extra\.weight"),
        ("shape", r"1 of another shape: transformer\.level_embed \(4, 5\) instead of \(4, 32\)"),
        ("nan", r"1 not finite: transformer\.level_embed"),
        ("config", "configuration is not one of this version"),
        ("no size", "configuration is incomplete"),
    ],
)
def test_tensors_that_are_not_this_networks(saved: Path, edit: str, message: str) -> None:
    change(saved, edit)
    with pytest.raises(CheckpointError, match=message) as refused:
        load_model(saved)
    assert str(saved) in str(refused.value)


def test_wrong_network(tmp_path: Path) -> None:
    """A file without a configuration is taken for the published one."""
    torch.save({"model": Taptr(TINY).state_dict()}, tmp_path / "other.pth")
    with pytest.raises(CheckpointError, match=r"other\.pth: not the weights of this network; tensors \d+ missing: "):
        load_model(tmp_path / "other.pth")


def test_unknown_device(saved: Path) -> None:
    with pytest.raises(ValueError, match="device 'toaster' cannot be used"):
        load_model(saved, device="toaster")
    if not torch.cuda.is_available():
        with pytest.raises(ValueError, match=r"device 'cuda' cannot be used: .* Use 'auto', 'cpu'"):
            load_model(saved, device="cuda")
