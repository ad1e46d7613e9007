"""python -m benchmarks convert | train_step | frozen | gpu"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path

RESULTS = Path(__file__).parent / "results"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Equal results first, then time.")
    parser.add_argument("benchmark", choices=("convert", "train_step", "frozen", "gpu"))
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--weights", type=Path, help="convert: a VGG16 .h5 instead of random numbers")
    parser.add_argument("--top", action="store_true", help="convert: with the dense layers, 528 MiB")
    parser.add_argument("--peers", metavar="PYTHON", help="train_step: an interpreter with Keras, TensorFlow and JAX")
    parser.add_argument("--device", help="frozen: cpu or cuda; gpu: another device, to try the code on with --tiny")
    parser.add_argument("--data", type=Path, help="gpu: a folder of Fashion-MNIST, to train on end to end")
    parser.add_argument("--only", choices=("vgg16", "vgg16_unet", "segnet"), help="gpu: one network instead of all")
    parser.add_argument("--tiny", action="store_true", help="all but convert: next to no work, to try the code")
    parser.add_argument("--all-cores", action="store_true", help="use every core; the default is one, with one thread")
    parser.add_argument("--save", metavar="MACHINE", help="keep the result under benchmarks/results, with this name")
    options = parser.parse_args()
    place = options.device or ("cuda" if options.benchmark == "gpu" else "cpu")
    if place == "cpu" and not options.all_cores:
        one_core()
    from torch_convae.training import device

    from . import convert, frozen, gpu, train_step  # after the core is chosen: PyTorch counts threads when it is loaded

    if options.benchmark == "convert":
        result = convert.run(options.weights, options.top, options.repeats)
    elif options.benchmark == "frozen":
        result = frozen.run(options.repeats, place, options.tiny)
    elif options.benchmark == "gpu":
        result = gpu.run(device(place), options.repeats, options.data, options.only, options.tiny)
    else:
        result = train_step.run(options.repeats, options.peers, options.tiny)
    text = json.dumps(result, indent=2)
    print(text)
    if options.save:
        part = "_top" if options.top else f"_{options.only}" if options.only else ""
        name = f"{options.benchmark}{part}_{options.save}_{result['environment']['date']}.json"
        RESULTS.mkdir(exist_ok=True)
        (RESULTS / name).write_text(text + "\n")
    return 0


def one_core() -> None:
    """Both sides on one core with one thread: on a shared machine, more drowns the comparison."""
    os.environ["OMP_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = "1"
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    import torch

    torch.set_num_threads(1)


if __name__ == "__main__":
    sys.exit(main())
