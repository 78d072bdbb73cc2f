"use strict";
// Sort a table by a column: first the largest numbers or the first texts, then the other way round.
for (const button of document.querySelectorAll("th button")) {
  button.addEventListener("click", () => {
    const head = button.closest("th");
    const column = [...head.parentNode.children].indexOf(head);
    const body = head.closest("table").tBodies[0];
    const isNumber = head.classList.contains("number");
    const before = head.getAttribute("aria-sort");
    const descending = before ? before === "ascending" : isNumber;
    const keyed = [...body.rows].map((row) => {
      const cell = row.cells[column];
      const value = cell.dataset.value === undefined ? NaN : Number(cell.dataset.value);
      return { row, value, text: cell.textContent };
    });
    keyed.sort((a, b) => {
      const blank = Number(isBlank(a)) - Number(isBlank(b));
      if (blank !== 0) return blank;
      const both = !Number.isNaN(a.value) && !Number.isNaN(b.value);
      const order = both ? a.value - b.value : a.text.localeCompare(b.text, undefined, { numeric: true });
      return descending ? -order : order;
    });
    body.append(...keyed.map((entry) => entry.row));
    for (const other of head.parentNode.children) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", descending ? "descending" : "ascending");
  });
}
// Cells without a value stay at the end.
function isBlank(entry) {
  return Number.isNaN(entry.value) && entry.text.trim() === "";
}

// A row is shown if it has all words of the filter and belongs to the chosen group, if there is one.
for (const section of document.querySelectorAll(".table")) {
  const input = section.querySelector(".filter input");
  const only = section.querySelector(".only");
  const body = section.querySelector("tbody");
  let group = null;
  const show = () => {
    const words = input ? input.value.toLowerCase().split(/\s+/) : [];
    for (const row of body.rows) {
      const text = row.textContent.toLowerCase();
      const isChosen = group === null || row.dataset.group === group;
      row.hidden = !(isChosen && words.every((word) => text.includes(word)));
    }
    if (only) only.hidden = group === null;
  };
  if (input) input.addEventListener("input", show);
  if (!only) continue;
  only.querySelector("button").addEventListener("click", () => {
    group = null;
    show();
  });
  for (const link of document.querySelectorAll(`a[data-group][href="#${section.id}"]`)) {
    link.addEventListener("click", () => {
      group = link.dataset.group;
      if (input) input.value = "";
      show();
    });
  }
}

// Without scripts a browser shows the titles of points, but late; this shows that of the nearest point at once.
const tip = document.getElementById("tip");
for (const chart of document.querySelectorAll(".chart > svg")) {
  const points = [...chart.querySelectorAll(".point")].filter((point) => point.querySelector("title"));
  const known = points.map((point) => {
    const title = point.querySelector("title");
    const { e: x, f: y } = point.transform.baseVal[0].matrix;
    const found = { point, text: title.textContent, x, y };
    title.remove();
    return found;
  });
  let shown = null;
  const hide = () => {
    if (shown) shown.point.classList.remove("shown");
    shown = null;
    tip.hidden = true;
  };
  chart.addEventListener("pointermove", (event) => {
    const at = new DOMPoint(event.clientX, event.clientY).matrixTransform(chart.getScreenCTM().inverse());
    let nearest = null;
    let least = 24 ** 2;
    for (const one of known) {
      const far = (one.x - at.x) ** 2 + (one.y - at.y) ** 2;
      if (far < least) [nearest, least] = [one, far];
    }
    if (nearest !== shown) hide();
    if (nearest === null) return;
    shown = nearest;
    shown.point.classList.add("shown");
    tip.textContent = nearest.text;
    tip.hidden = false;
    const right = Math.min(event.clientX + 14, window.innerWidth - tip.offsetWidth - 8);
    tip.style.left = `${Math.max(8, right)}px`;
    tip.style.top = `${Math.max(8, event.clientY - tip.offsetHeight - 12)}px`;
  });
  chart.addEventListener("pointerleave", hide);
}

for (const button of document.querySelectorAll(".copy")) {
  button.addEventListener("click", async () => {
    const code = button.parentNode.querySelector("code");
    try {
      await navigator.clipboard.writeText(code.textContent);
      button.textContent = "Copied";
    } catch {
      // Browsers may refuse it, as for files that are opened from a disk.
      window.getSelection().selectAllChildren(code);
      button.textContent = "Selected";
    }
  });
}
