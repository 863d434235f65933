// One board: its table, its charts, its trade-offs, and the provenance of its rows.

const DRAWN_ROWS = 4;

function boardSection(board, index, count) {
  const id = `board-${index + 1}`;
  const places = new Map();
  const show = (row) => {
    const details = places.get(row.name);
    details.open = true;
    details.firstElementChild.focus();
    details.scrollIntoView({ block: "start" });
  };
  const open = (row, column, reference) => openSamples(board, row, column, { beside: reference });
  return el(
    "section",
    { "aria-labelledby": id },
    el("h2", { id }, count > 1 ? `What was found, board ${index + 1} of ${count}` : "What was found"),
    storySection(board),
    board.keptApart.length > 0 && keptApart(board),
    el("h3", { id: `scores-${index + 1}` }, "All scores"),
    el("p", { class: "lede" }, "Choose a score for its details and samples, or a row for where it comes from."),
    boardTable(board, open, show),
    notes(board),
    boardCharts(board),
    tradeoffs(board),
    categories(board),
    provenance(board, places),
  );
}

const keptApart = (board) =>
  el(
    "div",
    { class: "apart" },
    el("h3", {}, "Why other rows are not on this board"),
    el("ul", {}, board.keptApart.map((reason) => el("li", {}, reason))),
  );

const notes = (board) =>
  el(
    "ul",
    { class: "notes" },
    el("li", {}, "Bold is the best measured row of a column, underlined the runner-up. \u25B2 means shown better and \u25BC shown worse than the row compared with, after correction for all tests of the family. \u00B1 is a standard error. Rows reported by a paper are neither ranked nor tested."),
    board.notes.map((note) => el("li", {}, note)),
  );

function boardCharts(board) {
  const figures = [];
  const start = board.rows.slice(0, DRAWN_ROWS).map((row) => row.name);
  const chosen = new Set(start);
  if (abilities(board).length >= 3) figures.push(radar(board, chosen));
  if (board.rows.filter((row) => row.trust && row.ability).length > 1) figures.push(frontChart(board));
  if (!figures.length) return null;
  const boxes = board.rows.map((row) =>
    checkbox(row.name, chosen.has(row.name), (checked) => {
      chosen[checked ? "add" : "delete"](row.name);
      figures[0].refresh();
    }),
  );
  return el(
    "div",
    {},
    el("h3", {}, "Trust and ability"),
    disclosure("Rows in the chart of abilities", { class: "menu" }, el("div", { class: "choices" }, boxes)),
    el("div", { class: "figures" }, figures.map((made) => made.figure)),
  );
}

/** Changes by dimension, coloured by their sign and size. */
function tradeoffs(board) {
  const { dimensions, changes, correlations } = board.tradeoffs;
  const names = Object.keys(changes);
  if (!names.length) return null;
  const sizes = names.flatMap((name) => Object.values(changes[name]).map((change) => Math.abs(change.mean ?? 0)));
  const largest = Math.max(...sizes, 1e-9);
  const cell = (change) => {
    if (!change) return el("td", {}, DASH);
    const strength = Math.round((40 * Math.abs(change.mean)) / largest);
    const kind = change.mean >= 0 ? "better" : "worse";
    return el(
      "td",
      { style: `background: color-mix(in srgb, var(--${kind}) ${strength}%, transparent)` },
      el("span", { class: "value" }, signed(change.mean)),
      el("small", { class: "interval" }, `[${signed(change.low)}, ${signed(change.high)}]`),
    );
  };
  const caption = `Change against ${board.reference} by dimension; positive is better`;
  return el(
    "div",
    {},
    el("h3", {}, "Trade-offs"),
    el(
      "div",
      { class: "scroll", tabindex: "0", role: "region", "aria-label": caption },
      el(
        "table",
        { class: "plain matrix" },
        el("caption", {}, caption),
        el("thead", {}, el("tr", {}, el("th", { scope: "col" }, "Model"), dimensions.map((name) => el("th", { scope: "col" }, name)))),
        el("tbody", {}, names.map((name) => el("tr", {}, el("th", { scope: "row" }, name), dimensions.map((d) => cell(changes[name][d]))))),
      ),
    ),
    correlations.length > 0 &&
      plainTable(
        "Correlation of the changes in two dimensions, over rows",
        ["Dimensions", "r", "low", "high", "p", "rows"],
        correlations.map((c) => [`${c.first} and ${c.second}`, c.value, c.low, c.high, c.p, String(c.rows)]),
      ),
  );
}

function categories(board) {
  const keys = Object.keys(board.categories).filter((key) => board.categories[key].length);
  if (!keys.length) return null;
  const title = (key) => board.columns.find((column) => column.key === key)?.title ?? key;
  const place = el("div", {});
  const names = board.rows.filter((row) => !row.reported).map((row) => row.name);
  const draw = (key) => {
    const found = board.categories[key];
    const rows = found.map((each) => [each.name, ...names.map((name) => each.scores[name]?.value)]);
    place.replaceChildren(plainTable(`${title(key)} by ${found[0].kind}`, [found[0].kind, ...names], rows));
  };
  draw(keys[0]);
  const select = selectOf(keys.map((key) => [key, title(key)]), keys[0], draw);
  return el("div", {}, el("h3", {}, "By category"), el("div", { class: "controls" }, labelled("Score", select)), place);
}

function provenance(board, places) {
  const entries = board.rows.map((row) => {
    const details = disclosure(row.name, { class: "provenance" }, definitions(row.provenance));
    places.set(row.name, details);
    return details;
  });
  return el("div", {}, el("h3", {}, "Where the rows come from"), entries);
}

/** A nested record as a list of definitions. */
function definitions(record) {
  const entries = Object.entries(record).filter(([, value]) => !isEmpty(value));
  return el("dl", {}, entries.map(([key, value]) => [el("dt", {}, key.replaceAll("_", " ")), el("dd", {}, valueOf(value))]));
}

const isEmpty = (value) => value == null || value === "" || (typeof value === "object" && !Object.keys(value).length);

function valueOf(value) {
  if (Array.isArray(value)) {
    return value.every((each) => typeof each !== "object")
      ? value.join(", ")
      : el("ul", {}, value.map((each) => el("li", {}, valueOf(each))));
  }
  return value !== null && typeof value === "object" ? definitions(value) : String(value);
}
