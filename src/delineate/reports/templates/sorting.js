// Columns are sorted by a click on their heads; without this script the page is complete.
for (const table of document.querySelectorAll("table.sortable")) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const down = head.getAttribute("aria-sort") === "ascending";
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      const key = (row) => row.cells[column]?.textContent.trim() ?? "";
      const value = (text) => parseFloat(text.replaceAll(",", ""));
      const order = (one, other) => {
        const [a, b] = [key(one), key(other)], [x, y] = [value(a), value(b)];
        if (Number.isNaN(x) !== Number.isNaN(y)) return Number.isNaN(x) ? 1 : -1;  // what has no number stays last
        return (down ? -1 : 1) * (Number.isNaN(x) ? a.localeCompare(b) : x - y);
      };
      const body = table.tBodies[0];
      body.append(...[...body.rows].sort(order));
    });
  });
}
