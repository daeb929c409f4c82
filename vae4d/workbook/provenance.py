"""What a report's figures hang on, as tables and sentences: definitions, methods, clips, versions, leaks, failures, and the command."""

from __future__ import annotations

import dataclasses
import json
import shlex
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import pandas as pd

from ..evaluation.report import Table
from .notebook import Workbook

DIGITS = 16  # of a SHA-256; the whole of it stands in benchmark.json


def definitions(record: Mapping[str, Any]) -> Iterator[Table]:
    """How each measure is computed, and what each method is, from benchmark.json."""
    yield prose("measure", record["definitions"], "How each figure is computed.")
    methods = {name: settings(about) for name, about in record["methods"].items()}
    caption = "What each method is; those with a checkpoint were trained, and are scored on clips that they have not learned from."
    yield prose("method", methods, caption)


def settings(about: Mapping[str, Any]) -> str:
    """The settings of a method as text."""
    short = {key: str(value)[:DIGITS] if key in ("checkpoint", "sha256") else value for key, value in about["settings"].items()}
    return ", ".join(f"{key} {value}" for key, value in short.items())


def prose(head: str, lines: Mapping[str, str], caption: str) -> Table:
    """A table of sentences, one for each name."""
    return Table(pd.DataFrame({"": lines.values()}, index=pd.Index(list(lines), name=head)), caption, prose=True)


def identity_table(tests: pd.DataFrame) -> Table:
    """The identity tests, one group of rows for each method."""
    value = [f"{row.value:.3g} {row.unit}".replace("inf dB", "∞ dB (equal)").replace("nan", "n/a") for row in tests.itertuples()]
    frame = pd.DataFrame({"measured": value, "asked for": tests["limit"].to_numpy(), "verdict": tests["verdict"].to_numpy()},
                         index=pd.Index(tests["test"], name="test"))
    counts = tests.groupby("method", sort=False)
    groups = [(f"{name}: passes {int((part['verdict'] == 'passes').sum())} of {len(part)}", len(part)) for name, part in counts]
    caption = (
        "Questions whose answer is known without a truth. Look for what a method fails: a voxel decoder cannot give back a frame exactly, "
        "and a picture counts as given back from 40 dB on. A passed test does not make a method good: repeating a frame passes nearly all."
    )
    return Table(frame, caption, groups)


def identity_pieces(tests: pd.DataFrame, untested: list[str]) -> Iterator[Table | list[str]]:
    """The table of the identity tests, and which methods have none and why."""
    if len(tests):
        yield identity_table(tests)
    if untested:
        yield untested


def checks(record: Mapping[str, Any], scenes: Mapping[str, Any] | None) -> list[str]:
    """The leak check's result, what was left out and why, what failed, and what is not available.

    Args:
        record: benchmark.json. scenes: scenes.json, None where no worlds were scored.
    """
    said = [record["leaks"]["result"]]
    said += [f"NOTE: {flag['method']} on {flag['clip']} proves nothing, as {flag['reason']}." for flag in record["flags"]]
    said += [f"Left out: {reason}" for reason in record["left_out"]]
    failures = [(f"{one['clip']}, {one['size']} px, gap {one['gap']}", one) for one in record["failures"]]
    failures += [(f"procedural worlds, {one['bin']}", one) for one in (scenes or {}).get("failures", [])]
    said += [f"{failure['method']} lost its rows on {where}: {failure['message']}" for where, failure in failures]
    if not failures:
        said.append("No method failed.")
    if record["lpips"] is None:
        said.append("LPIPS is not available (the package lpips is not installed, or it was left out); no other measure stands in for it.")
    if scenes is None:
        said.append("Procedural worlds were left out: depth, camera, flow and new views are not measured here.")
    return said


def origin(record: Mapping[str, Any], book: Workbook, options: Any, notebook: str = "05_evaluate") -> Iterator[Table | str]:
    """Clips with their hashes, versions and seeds, and the command that makes the page again."""
    rows = [
        {
            "size": clip["size"], "split": clip["split"], "frames": clip["frames"], "cuts": len(clip["cuts"]),
            "repeated": len(clip["repeated"]), "video sha256": clip["sha256"][:DIGITS],
            "prepared frames sha256": clip["frames_sha256"][:DIGITS],
        }
        for clip in record["clips"]
    ]  # fmt: skip
    names = pd.Index([clip["clip"] for clip in record["clips"]], name="clip")
    yield Table(pd.DataFrame(rows, index=names), f"The clips; hashes by their first {DIGITS} digits, whole in benchmark.json.")
    packages = record["versions"] | {name: version for name, version in book.facts["versions"].items() if name not in record["versions"]}
    chosen = record["settings"]
    facts = {
        "versions": ", ".join(f"{name} {version}" for name, version in packages.items()),
        "hardware": f"{book.facts['device']} ({book.facts['hardware']})",
        "seeds": ", ".join(f"{name} {seed}" for name, seed in chosen["seeds"].items()),
        "bootstrap": f"{chosen['resamples']} resamples",
        "pairs": f"at most {chosen['limit']} a clip and gap" if chosen["limit"] else "all",
        "command": command(options, notebook),
    }
    yield prose("", facts, "What the figures hang on. The same inputs give the same bytes in all tables.")


def command(options: Any, notebook: str) -> str:
    """The command that makes the page again with the same options."""
    target = f"{options.run_dir}/{notebook}.ipynb"
    return shlex.join(["papermill", f"notebooks/{notebook}.ipynb", target, "-y", json.dumps(dataclasses.asdict(options))])


def flat(lists: Iterable[list[str]]) -> list[str]:
    """All sentences of several lists."""
    return [sentence for part in lists for sentence in part]
