"""`AuditReport`: what an audit of data found, and what to do about it."""

from __future__ import annotations

import dataclasses
import textwrap

# From the worst to the mildest.
SEVERITIES = {
    "leak": "results will be too good",
    "fault": "training or its figures will be wrong",
    "warning": "look at it",
    "note": "good to know",
}
WIDTH = 88


@dataclasses.dataclass(frozen=True)
class Finding:
    """One thing that an audit found.

    Attributes:
        severity: `"leak"`, `"fault"`, `"warning"` or `"note"`.
        check: str, the name of the check, such as `"shared rows"`.
        what: str, a sentence with the numbers.
        remedy: str, what to do.
    """

    severity: str
    check: str
    what: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.what} {self.remedy}"


@dataclasses.dataclass(frozen=True)
class AuditReport:
    """The findings of an audit, from the worst to the mildest; `str` is a table.

    Attributes:
        parts: dict of a description of each part, by its name.
        findings: tuple of `Finding`.

    >>> found = Finding("leak", "shared rows", "Train and test share 3 rows.", "Split.")
    >>> report = AuditReport({"train": "9 rows", "test": "3 rows"}, (found,))
    >>> report.is_clean, len(report.leaks)
    (False, 1)
    """

    parts: dict[str, str]
    findings: tuple[Finding, ...]

    @property
    def leaks(self) -> tuple[Finding, ...]:
        """The findings that make results too good."""
        return tuple(f for f in self.findings if f.severity == "leak")

    @property
    def is_clean(self) -> bool:
        """True if nothing but notes was found."""
        return all(f.severity == "note" for f in self.findings)

    def raise_if_leaking(self) -> None:
        """Raises a `ValueError` that names each leak, if there is one."""
        if self.leaks:
            raise ValueError(" ".join(map(str, self.leaks)))

    def __str__(self) -> str:
        lines = [f"{name:<12}{text}" for name, text in self.parts.items()]
        if not self.findings:
            return "\n".join([*lines, "Nothing was found."])
        for found in self.findings:
            head = f"{found.severity:<9}{found.check}"
            lines += ["", f"{head:<32}({SEVERITIES[found.severity]})"]
            lines += textwrap.wrap(
                str(found), WIDTH, initial_indent=" " * 9, subsequent_indent=" " * 9
            )
        return "\n".join(lines)


def report(parts: dict[str, str], findings: list[Finding]) -> AuditReport:
    """A report with the worst findings first."""
    order = list(SEVERITIES)
    by_severity = sorted(findings, key=lambda f: order.index(f.severity))
    return AuditReport(parts, tuple(by_severity))
