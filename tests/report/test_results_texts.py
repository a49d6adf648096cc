"""What results/README.md says: every number with a decimal point occurs in a committed table."""

from __future__ import annotations

import csv
import re
from collections import Counter
from pathlib import Path

RESULTS = Path(__file__).parents[2] / "results"
GONE = ("sn_ratios", "rbn_distribution")  # quoted from records that are no longer there
ELSEWHERE = {
    "frn_table3": {0.09, 0.13},  # thresholds: likewise
    "rbn_table2": {0.73},  # sigmoid(1)
    "imagenette_cpu": {16.7},  # 64.2 less 47.5
}


def numbers(text: str) -> list[str]:
    """Those with a decimal point, without sign."""
    return re.findall(r"(?<![\w.-])\d*\.\d+(?![\w.])", text)


def of_file(path: Path) -> list[float]:
    """Every number in the cells of a CSV file."""
    with path.open(encoding="utf-8") as file:
        cells = [cell for row in csv.reader(file) for cell in row]
    return [abs(float(cell)) for cell in cells if re.fullmatch(r"[-+]?\d+(\.\d+)?(e-?\d+)?", cell)]


def test_every_number_stands_in_a_table() -> None:
    claims = of_file(RESULTS / "claims.csv")
    text = (RESULTS / "README.md").read_text(encoding="utf-8")
    for section in re.split(r"^## ", text, flags=re.MULTILINE)[1:]:
        study = section.split(":")[0]
        if study in GONE or not (RESULTS / study / "table.csv").is_file():
            continue
        known = of_file(RESULTS / study / "table.csv") + claims
        if (learned := RESULTS / study / "table_learned.csv").is_file():
            known += of_file(learned)
        for number in numbers(section):
            if float(number) in ELSEWHERE.get(study, ()):
                continue
            digits = len(number.partition(".")[2])
            near = 0.51 * 10**-digits  # a table may show a rounded number that is rounded again
            assert any(abs(value - float(number)) <= near for value in known), (study, number)


def test_the_verdicts_are_counted() -> None:
    with (RESULTS / "claims.csv").open(encoding="utf-8") as file:
        count = Counter(row["verdict"] for row in csv.DictReader(file))
    text = " ".join((RESULTS / "README.md").read_text(encoding="utf-8").split())
    said = re.search(
        r"(\d+) hold, (\d+) are opposite, (\d+) are unclear and (\d+) were not run", text
    )
    assert said is not None
    assert [int(word) for word in said.groups()][:3] == [
        count[word] for word in ("holds", "opposite", "unclear")
    ]
