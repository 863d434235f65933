// The table of a board: sorted, filtered, its columns chosen, its cells reached by arrow keys.

const CONTENTS = [
  ["error", "score \u00B1 standard error"],
  ["difference", "difference"],
  ["interval", "difference and interval"],
  ["score", "score"],
];

/** The state of one board's table, and the functions that redraw it. */
function boardTable(board, open, showProvenance) {
  const state = {
    sort: null,
    descending: false,
    filter: "",
    reported: true,
    contents: "error",
    reference: board.reference ?? "",
    shown: new Set(board.columns.map((column) => column.key)),
  };
  const table = el("table", { class: "board", role: "grid", "aria-label": "Scores" });
  const status = el("p", { class: "status", role: "status" });
  const draw = () => drawTable(board, state, table, status, { open, showProvenance, sortBy });
  const change = (name) => (value) => {
    state[name] = value;
    draw();
  };
  function sortBy(key, best) {
    const again = state.sort === key;
    const back = again && state.descending !== best;
    state.sort = back ? null : key;
    state.descending = again ? !state.descending : best;
    draw();
    table.querySelector(`[data-sort="${CSS.escape(key)}"]`)?.focus();
  }
  table.addEventListener("keydown", moveByArrows);
  draw();
  return el(
    "div",
    {},
    tableControls(board, state, change, draw),
    el("div", { class: "scroll board-scroll" }, table),
    status,
  );
}

function tableControls(board, state, change, draw) {
  const search = el("input", {
    type: "search",
    placeholder: "name, model, setting",
    oninput: (event) => change("filter")(event.target.value),
  });
  const names = board.rows.filter((row) => !row.reported).map((row) => [row.name, row.name]);
  const reference = selectOf([["", "nothing"], ...names], state.reference, change("reference"));
  const columns = board.columns.map((column) =>
    checkbox(column.title, true, (checked) => {
      state.shown[checked ? "add" : "delete"](column.key);
      draw();
    }),
  );
  const some = board.rows.some((row) => row.reported);
  return el(
    "div",
    { class: "controls" },
    labelled("Find rows", search),
    labelled("Compare with", reference),
    labelled("In each cell", selectOf(CONTENTS, state.contents, change("contents"))),
    some && checkbox("Reported rows", state.reported, change("reported")),
    disclosure("Columns", { class: "menu" }, el("div", { class: "choices" }, columns)),
  );
}

function drawTable(board, state, table, status, actions) {
  const columns = board.columns.filter((column) => state.shown.has(column.key));
  const rows = sorted(board, matching(board, state), state);
  const ranks = new Map(columns.map((column) => [column.key, places(board, column)]));
  const line = (row) => tableRow(board, row, columns, ranks, state, actions);
  const measured = rows.filter((row) => !row.reported);
  const reported = rows.filter((row) => row.reported);
  table.replaceChildren(
    el("thead", {}, headerRow(board, columns, state, actions.sortBy)),
    el("tbody", {}, measured.map(line)),
    el("tbody", { class: "reported" }, reported.map(line)),
  );
  for (const each of table.querySelectorAll("button")) each.tabIndex = -1;
  table.querySelector("button").tabIndex = 0;
  status.textContent = `${rows.length} of ${board.rows.length} rows`;
}

/** Rows that hold every word of the filter in their name or provenance. */
function matching(board, state) {
  const words = state.filter.toLowerCase().split(/\s+/).filter(Boolean);
  return board.rows.filter((row) => {
    if (row.reported && !state.reported) return false;
    const text = `${row.name} ${JSON.stringify(row.provenance)}`.toLowerCase();
    return words.every((word) => text.includes(word));
  });
}

function sortValue(board, row, key) {
  if (key === "name") return row.name;
  if (key === "win") return board.winRates[row.name] ?? null;
  return row.scores[key]?.value ?? null;
}

/** Rows in the chosen order; rows without a value come last either way. */
function sorted(board, rows, state) {
  if (!state.sort) return rows;
  const way = state.descending ? -1 : 1;
  const compare = (a, b) => (typeof a === "string" ? a.localeCompare(b) : a - b);
  return [...rows].sort((a, b) => {
    const [x, y] = [a, b].map((row) => sortValue(board, row, state.sort));
    if (x == null || y == null) return (x == null) - (y == null);
    return way * compare(x, y);
  });
}

function headerRow(board, columns, state, sortBy) {
  const head = (key, title, best, extra) => {
    const sort = state.sort !== key ? "none" : state.descending ? "descending" : "ascending";
    const button = el("button", { type: "button", "data-sort": key, onclick: () => sortBy(key, best) }, title, extra);
    return el("th", { scope: "col", "aria-sort": sort }, button);
  };
  return el(
    "tr",
    {},
    head("name", "Model", false),
    columns.map((column) => head(column.key, column.title, column.higher_is_better, direction(column))),
    Object.keys(board.winRates).length > 0 && head("win", "Win rate", true),
  );
}

const DIRECTIONS = { true: [" \u2191", " higher is better"], false: [" \u2193", " lower is better"], null: [" \u21920", " 0 is best"] };

const direction = (column) => {
  const [arrow, words] = DIRECTIONS[column.higher_is_better];
  return el("span", { class: "direction" }, el("span", { "aria-hidden": "true" }, arrow), hidden(words));
};

function tableRow(board, row, columns, ranks, state, actions) {
  const marks = [];
  if (row.reported) marks.push(el("span", { class: "tag" }, "reported"));
  if (row.name === state.reference) marks.push(el("span", { class: "tag" }, "compared with"));
  if (board.front.includes(row.name)) marks.push(el("span", { class: "tag" }, "front"));
  const name = el("button", { type: "button", onclick: () => actions.showProvenance(row) }, row.name);
  const rate = board.winRates[row.name];
  return el(
    "tr",
    { class: row.name === state.reference ? "reference" : false },
    el("th", { scope: "row" }, name, marks.length > 0 && el("span", { class: "tags" }, marks)),
    columns.map((column) => scoreCell(board, row, column, ranks.get(column.key).get(row.name), state, actions)),
    Object.keys(board.winRates).length > 0 &&
      el("td", { class: "none" }, number(rate)),
  );
}

/** One line: the score or difference, and a mark where a difference is shown. The rest is behind it. */
function scoreCell(board, row, column, rank, state, actions) {
  const score = row.scores[column.key];
  if (!score) return el("td", { class: "none" }, DASH, hidden(" no score"));
  const found = state.reference && row.name !== state.reference ? comparisonOf(board, row.name, state.reference, column.key) : null;
  const { kind, mark, words } = outcome(found, column, board.confidence);
  const tag = rank === 1 ? "strong" : rank === 2 ? "u" : "span";
  const button = el(
    "button",
    {
      type: "button",
      class: "score",
      "aria-haspopup": "dialog",
      "aria-expanded": "false",
      onclick: (event) => openCell(board, row, column, state.reference, event.currentTarget, actions),
    },
    cellText(score, found, state.contents, tag),
    el("span", { class: `mark ${kind}`, "aria-hidden": "true" }, mark),
    mark !== "" && hidden(`, shown ${words}`),
  );
  return el("td", {}, button);
}

function cellText(score, found, contents, tag) {
  if (contents === "score" || contents === "error") {
    const { interval, stderr } = score;
    const plain = stderr != null && ` \u00B1 ${number(stderr)}`;
    const said = interval?.low != null ? ` ${between(interval.low, interval.high, number)}` : plain;
    const error = contents === "error" && said && el("small", {}, said);
    return [el(tag, {}, number(score.value)), error];
  }
  if (!found) return el("small", {}, number(score.value));
  return [signed(found.mean), contents === "interval" && el("small", {}, ` ${between(found.low, found.high, signed)}`)];
}

const ARROWS = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };

/** Move between the table's buttons by arrows, Home and End; only the last one is a tab stop. */
function moveByArrows(event) {
  const cell = event.target.closest("th, td");
  if (!cell || event.altKey || event.ctrlKey || event.metaKey) return;
  const rows = [...event.currentTarget.rows];
  let [y, x] = [rows.indexOf(cell.parentElement), cell.cellIndex];
  let step = ARROWS[event.key];
  if (event.key === "Home") [x, step] = [-1, [0, 1]];
  if (event.key === "End") [x, step] = [rows[y].cells.length, [0, -1]];
  if (!step) return;
  event.preventDefault();
  for (y += step[0], x += step[1]; rows[y]?.cells[x]; y += step[0], x += step[1]) {
    const button = rows[y].cells[x].querySelector("button:not(:disabled)");
    if (!button) continue;
    for (const each of event.currentTarget.querySelectorAll('button[tabindex="0"]')) each.tabIndex = -1;
    button.tabIndex = 0;
    button.focus();
    return;
  }
}
