"""python -m bridge inspect | plan | convert | verify"""

from __future__ import annotations

import argparse
import json
import signal
import sys
from collections.abc import Sequence

from . import BridgeError, Plan, Report, convert, match
from .command.description import describe, listing
from .command.factory import build
from .command.parser import parser
from .command.printing import complain, prepare, say
from .command.said import choices, opened
from .command.stopping import Stopped, stoppable
from .errors import one_line
from .verify import verify_file


def run_inspect(options: argparse.Namespace) -> int:
    source = opened(options.file, options)
    source.check()
    described = describe(source)
    say(json.dumps(described, indent=2) if options.json else listing(source, described))
    return 0


def run_plan(options: argparse.Namespace) -> int:
    source = opened(options.file, options)
    plan = match(source, build(options.into), **choices(options))
    source.check(key for key in source if key not in plan.skipped)
    show(plan, options.json)
    return 0


def run_convert(options: argparse.Namespace) -> int:
    source = opened(options.source, options)
    done = convert(source, options.destination, to=options.to, like=options.like, **choices(options))
    lines = [f"skipped {key}: {reason}" for key, reason in done.skipped.items()]
    lines += [f"{key} -> {name}: {step}" for key, (name, step) in done.converted.items() if step.maps]
    lines += [f"note: {note}" for note in done.notes]
    lines.append(f"{len(done.converted)} tensors -> {done.path}")
    say("\n".join(map(one_line, lines)), besides=f" {done.path} is written and complete.")
    return 0


def run_verify(options: argparse.Namespace) -> int:
    report = verify_file(
        opened(options.file, options),
        build(options.into),
        weights=options.weights,
        reference=options.reference,
        keras=options.keras,
        epsilon=options.epsilon,
        **choices(options),
    )
    show(report, options.json)
    return 0 if report.ok else 1


def show(result: Plan | Report, as_json: bool) -> None:
    """A result as a table, or as JSON."""
    if as_json:
        say(json.dumps(result.to_dict(), indent=2))
    else:
        say("\n".join(map(one_line, str(result).split("\n"))))


VERBS = {"inspect": run_inspect, "plan": run_plan, "convert": run_convert, "verify": run_verify}


def main(arguments: Sequence[str] | None = None) -> int:
    prepare()
    try:
        with stoppable():
            options = parser(VERBS).parse_args(arguments)
            code: int = options.run(options)
    except BridgeError as error:
        complain(f"bridge: {error}")
        return 2
    except MemoryError:
        complain("bridge: this takes more memory than there is. Free some, or use a larger machine.")
        return 2
    except KeyboardInterrupt:
        complain("bridge: interrupted.")
        return 128 + signal.SIGINT
    except Stopped:
        complain("bridge: stopped by SIGTERM.")
        return 128 + signal.SIGTERM
    return code


if __name__ == "__main__":
    sys.exit(main())
