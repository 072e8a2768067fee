"use strict";
/* Tables that are sorted by a click on the head of a column: down, then up. */

const Tables = (() => {
  const key = (row, k) => {
    const cell = row.cells[k];
    return "value" in cell.dataset ? Number(cell.dataset.value) : cell.textContent;
  };
  const isNone = (value) => value === "–";

  function compare(a, b) {
    if (isNone(a) || isNone(b)) return Number(isNone(a)) - Number(isNone(b));
    if (typeof a === "number" && typeof b === "number") return a - b;
    return String(a).localeCompare(String(b), "en", {numeric: true});
  }

  function sort(table, k) {
    const heads = [...table.tHead.rows[0].cells], body = table.tBodies[0];
    const before = heads[k].getAttribute("aria-sort");
    const numbers = heads[k].classList.contains("number");
    const up = before ? before === "descending" : !numbers;
    const rows = [...body.rows].sort((a, b) => {
      const x = key(a, k), y = key(b, k);
      return isNone(x) || isNone(y) ? compare(x, y) : (up ? 1 : -1) * compare(x, y);
    });
    heads.forEach((head) => head.removeAttribute("aria-sort"));
    heads[k].setAttribute("aria-sort", up ? "ascending" : "descending");
    body.append(...rows);
  }

  function start() {
    for (const table of /** @type {any[]} */ (Dom.all("table.sortable"))) {
      [...table.tHead.rows[0].cells].forEach((head, k) => {
        head.querySelector("button").addEventListener("click", () => sort(table, k));
      });
    }
  }

  return {start};
})();
