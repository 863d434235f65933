// The first screen of a board: what was compared, what was found, and one chart of it.

const MOST_LINES = 24;
const MARKS = { better: "\u25B2", worse: "\u25BC", open: "\u25CB" };

function storySection(board) {
  const { compared, findings, remarks } = board.story;
  const line = ({ text, outcome: kind }) =>
    el("li", { class: kind }, el("span", { class: "mark", "aria-hidden": "true" }, MARKS[kind]), el("span", {}, sentence(text)));
  return el(
    "div",
    { class: "story" },
    el(
      "div",
      {},
      el("p", { class: "compared" }, sentence(compared)),
      findings.length > 0 && el("ul", { class: "findings" }, findings.map(line)),
      remarks.map((each) => el("p", { class: "remark" }, sentence(each))),
    ),
    board.story.chart.length > 0 && storyChart(board),
  );
}

/** The chart, and a choice of what it shows where there is one. */
function storyChart(board) {
  const place = el("div", {});
  const caption = el("figcaption", {});
  const [kind, key] = board.story.chart;
  const draw = (value) => {
    const { groups, said } = chartLines(board, ...JSON.parse(value));
    place.replaceChildren(forest(groups));
    caption.textContent = said;
  };
  const start = JSON.stringify([kind, key]);
  const options = chartOptions(board);
  draw(start);
  const choice = options.flatMap(([, of]) => of).length > 1 && labelled("Chart of", groupedSelect(options, start, draw));
  return el("figure", { class: "first-chart" }, choice, place, caption);
}

function groupedSelect(groups, chosen, onchange) {
  const option = ([value, text]) => el("option", { value, selected: value === chosen }, text);
  const filled = groups.filter(([, options]) => options.length);
  return el(
    "select",
    { onchange: (event) => onchange(event.target.value) },
    filled.map(([label, options]) => el("optgroup", { label }, options.map(option))),
  );
}

/** What can be drawn: a column for all rows, or a row for all columns. */
function chartOptions(board) {
  const drawn = ([kind, key]) => chartLines(board, kind, key).groups.length > 0;
  const option = (kind, key, text) => [[kind, key], text];
  const columns = board.columns.map((column) => option("column", column.key, column.title));
  const rows = board.rows.filter((row) => !row.reported).map((row) => option("row", row.name, row.name));
  const ready = (options) => options.filter(([place]) => drawn(place)).map(([place, text]) => [JSON.stringify(place), text]);
  return [["One score, all rows", ready(columns)], ["One row, all scores", ready(rows)]];
}

/** The lines of a chart in groups, and what it shows in words. */
function chartLines(board, kind, key) {
  return board.pairs.length > 0 ? differenceLines(board, kind, key) : scoreLines(board, kind, key);
}

function differenceLines(board, kind, key) {
  const pairs = board.pairs
    .map((pair) => (pair.second === board.reference ? [pair.second, pair.first, pair.column] : [pair.first, pair.second, pair.column]))
    .filter(([other, row, column]) => (board.reference === null || other === board.reference) && (kind === "row" ? row : column) === key);
  const severalOthers = new Set(pairs.map(([other]) => other)).size > 1;
  const lines = pairs.flatMap(([other, row, of]) => {
    const column = board.columns.find((each) => each.key === of);
    if (column.higher_is_better == null || (kind === "row" && !isShare(board, column))) return [];
    const found = comparisonOf(board, row, other, of);
    const { kind: shown, words } = outcome(found, column, board.confidence);
    const label = kind === "row" ? column.title : row;
    return [{
      ...found,
      kind: shown,
      up: column.higher_is_better,
      label: severalOthers ? `${label} over ${other}` : label,
      text: `${signed(found.mean)} ${between(found.together.low, found.together.high, signed)} ${words}`,
    }];
  });
  const percent = Number((100 * board.confidence).toPrecision(6));
  const title = kind === "row" ? key : board.columns.find((each) => each.key === key)?.title;
  const over = severalOthers ? "another row" : pairs[0]?.[0];
  // Scores keep the table's order; rows come from the largest difference to the smallest.
  if (kind === "column") lines.sort((a, b) => b.mean - a.mean);
  return {
    groups: byDirection(lines),
    said: `${title}: difference from ${over} on the same items. Thick: ${percent} % interval by itself; thin, and in numbers: together with all tests.${cutNote(lines)}`,
  };
}

function scoreLines(board, kind, key) {
  const places = kind === "row"
    ? board.columns.filter((column) => isShare(board, column)).map((column) => [board.byName.get(key), column, column.title])
    : board.rows.filter((row) => !row.reported).map((row) => [row, board.columns.find((column) => column.key === key), row.name]);
  const lines = places.flatMap(([row, column, label]) => {
    const score = row.scores[column.key];
    if (!score) return [];
    const half = score.stderr ? board.z * score.stderr : null;
    const plain = half === null ? {} : { low: score.value - half, high: score.value + half };
    const { low = null, high = null } = score.interval ?? plain;
    return [{ label, mean: score.value, low, high, kind: "open", up: column.higher_is_better, text: `${number(score.value)}${low === null ? "" : ` ${between(low, high, number)}`}` }];
  });
  const title = kind === "row" ? key : board.columns.find((each) => each.key === key)?.title;
  return { groups: byDirection(lines, true), said: `${title}: scores with ${number(board.z)} standard errors either way.${cutNote(lines)}` };
}

const cutNote = (lines) => (lines.length > MOST_LINES ? ` The first ${MOST_LINES} of ${lines.length} are drawn; the table has all.` : "");

/** Whether a column's scores lie between 0 and 1, so that it shares a scale with the others. */
const isShare = (board, column) =>
  board.rows.every(({ scores }) => !scores[column.key] || (scores[column.key].value >= 0 && scores[column.key].value <= 1));

/** Lines whose better side is the same, under a title that says which. */
function byDirection(lines, areScores = false) {
  const shown = lines.slice(0, MOST_LINES);
  const title = areScores
    ? { true: "Higher is better", false: "Lower is better", null: "0 is best" }
    : { true: "Higher is better: right of the line is a gain", false: "Lower is better: left of the line is a gain" };
  return [true, false, null]
    .map((up) => ({ title: title[up], lines: shown.filter((line) => line.up === up) }))
    .filter(({ lines: of }) => of.length > 0);
}
