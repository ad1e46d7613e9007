"""What a proof says of each layer."""

from bridge import Report


def verdicts(report: Report) -> dict[str, str]:
    return {proof.name: proof.verdict for proof in report.layers}
