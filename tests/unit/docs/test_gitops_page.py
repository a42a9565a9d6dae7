"""docs/gitops.md has the statuses that the operator writes. (What tools make of them needs Go: `make gitops-table`.)"""

from gitops_table import PAGE, said, states


def test_the_table_has_each_state_with_the_conditions_that_the_operator_writes() -> None:
    rows = [line.split(" | ") for line in PAGE.read_text().splitlines() if line.startswith(("| Rule: ", "| Sensor: "))]
    shown = {cells[0].removeprefix("| "): cells[1] for cells in rows}
    assert shown == {name: said(body) for name, body in states().items()}, "run `make gitops-table`"
