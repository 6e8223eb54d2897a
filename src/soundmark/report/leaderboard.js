
// Columns are sorted by their buttons: the better end first, then the other. What has no number stays below.
for (const table of document.querySelectorAll("table.board")) {
  const body = table.tBodies[0];
  const told = document.getElementById("sorted");
  for (const head of table.querySelectorAll("th[data-first]")) {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const first = head.dataset.first;
      const other = first === "ascending" ? "descending" : "ascending";
      const way = head.getAttribute("aria-sort") === first ? other : first;
      for (const each of table.querySelectorAll("th[aria-sort]")) each.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", way);
      const value = (row) => row.cells[head.cellIndex].dataset.value ?? "";
      const sign = way === "ascending" ? 1 : -1;
      const words = head.dataset.kind === "words";
      const rows = [...body.rows].sort((one, two) => {
        const [a, b] = [value(one), value(two)];
        if (a === "" || b === "") return (a === "") - (b === "");
        return sign * (words ? a.localeCompare(b) : a - b);
      });
      body.append(...rows);
      told.textContent = `Sorted by ${head.dataset.name}, ${way}.`;
    });
  }
}
