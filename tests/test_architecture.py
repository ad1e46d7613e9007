"""Imports point one way, and files stay small enough to read."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
CODE = sorted(path for package in ("bridge", "torch_convae") for path in (ROOT / package).rglob("*.py"))
PARTS = ("torch_convae.models", "torch_convae.data", "torch_convae.training")
MOST_LINES = 350


def module_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def imported(path: Path) -> Iterator[str]:
    """Everything a file imports, wherever in it, under its full name."""
    package = module_of(path).split(".") if path.name == "__init__.py" else module_of(path).split(".")[:-1]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            source = ".".join([*above, *(node.module or "").split(".")]).strip(".")
            yield from (f"{source}.{alias.name}" for alias in node.names)


def within(name: str, *packages: str) -> bool:
    return any(name == package or name.startswith(f"{package}.") for package in packages)


def test_the_table_below_reads_the_files_it_speaks_of() -> None:
    found = {module_of(path): set(imported(path)) for path in CODE}
    assert "bridge.matching.match.match" in found["bridge"]
    assert "torch_convae.models.vgg.VGG16Encoder" in found["torch_convae.models.unet"]
    assert "torch_convae.errors.ConvaeError" in found["torch_convae.models"]


@pytest.mark.parametrize("path", [path for path in CODE if within(module_of(path), "bridge")], ids=module_of)
def test_the_bridge_knows_no_model_and_no_framework_but_pytorch(path: Path) -> None:
    strange = ("torch_convae", "torchvision", "keras", "tensorflow", "tf_keras")
    assert [name for name in imported(path) if within(name, *strange)] == []


@pytest.mark.parametrize("path", [path for path in CODE if within(module_of(path), *PARTS)], ids=module_of)
def test_models_data_and_training_do_not_know_each_other(path: Path) -> None:
    own = next(part for part in PARTS if within(module_of(path), part))
    free = ("torch_convae.errors", "torch_convae.files", "torch_convae.orphans", own)
    strange = [name for name in imported(path) if within(name, "torch_convae", "bridge") and not within(name, *free)]
    assert strange == []


def test_one_file_of_torch_convae_imports_the_bridge() -> None:
    importers = {
        module_of(path)
        for path in CODE
        if within(module_of(path), "torch_convae") and any(within(name, "bridge") for name in imported(path))
    }
    assert importers <= {"torch_convae.weights"}


@pytest.mark.parametrize("path", CODE, ids=module_of)
def test_a_file_is_small_enough_to_read(path: Path) -> None:
    assert len(path.read_text().splitlines()) < MOST_LINES


HOOK = """
import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {"torchvision", "keras", "tensorflow", "tf_keras", "torch_convae"}:
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Absent())
"""


def test_the_bridge_works_where_torchvision_keras_and_tensorflow_are_absent(tmp_path: Path) -> None:
    use = "\n".join(
        [
            HOOK,
            "import torch, bridge, bridge.__main__",
            "module = torch.nn.Sequential(torch.nn.Linear(2, 3))",
            f"torch.save(module.state_dict(), {str(tmp_path / 'w.pt')!r})",
            f"bridge.convert({str(tmp_path / 'w.pt')!r}, {str(tmp_path / 'w.safetensors')!r})",
            f"print(len(bridge.load(module, {str(tmp_path / 'w.safetensors')!r}, strict=True).copied))",
            "try:",
            "    import torchvision",
            "except ModuleNotFoundError:",
            "    print('absent')",
        ]
    )
    done = subprocess.run([sys.executable, "-c", use], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.split(), done.stderr) == (0, ["2", "absent"], "")


def test_what_takes_seconds_to_import_is_imported_where_it_is_used() -> None:
    use = "import sys, torch_convae.train, bridge.__main__; print(*{'torchvision', 'torch._dynamo'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", use], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.strip(), done.stderr) == (0, "", "")
