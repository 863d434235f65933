// The dialog with the samples behind a score, beside those of the row that it is compared with.

const PAGE = 10;
const TAIL = 700;
const FILTERS = [
  ["all", "all samples"],
  ["changed", "answer changed"],
  ["worse", "moved the wrong way"],
  ["better", "moved the right way"],
];

/** Open the samples of a row's score. */
function openSamples(board, row, column, reference) {
  const dialog = document.getElementById("samples");
  const tasks = row.tasks[column.task];
  const state = { board, row, column, task: tasks[0], run: 0, reference, filter: "all", phrase: "", page: 0 };
  if (state.reference === row.name) state.reference = "";
  state.dialog = dialog;
  state.list = el("ol", { class: "samples", tabindex: "-1" });
  state.status = el("p", { class: "status", role: "status" });
  state.pager = el("div", { class: "pager" });
  state.controls = el("div", { class: "controls" });
  const close = el("button", { type: "button", class: "plain", onclick: () => dialog.close() }, "Close");
  dialog.replaceChildren(
    el(
      "header",
      {},
      el("div", {}, el("h2", { id: "samples-title" }, `${row.name}: ${column.title}`), scoreLine(state)),
      close,
    ),
    state.controls,
    el("div", { class: "bar" }, state.status, state.pager),
    state.list,
  );
  dialog.onkeydown = (event) => pageByArrows(event, state);
  dialog.onclose = () => (state.search = null);
  drawSampleControls(state);
  dialog.showModal();
  return loadSamples(state);
}

function scoreLine({ board, row, column, reference }) {
  const score = row.scores[column.key];
  const parts = [`${number(score.value)}`];
  if (score.stderr != null) parts.push(`\u00B1 ${number(score.stderr)}`);
  if (score.items != null) parts.push(`on ${whole(score.items)} items`);
  if (score.corrected) parts.push(`; ${correctedLine(score.corrected, number)}`);
  const standing = board.standings[column.key]?.[row.name];
  if (standing) parts.push(`; ${standingLine(standing)}`);
  const found = reference ? comparisonOf(board, row.name, reference, column.key) : null;
  if (found) {
    parts.push(
      `; ${signed(found.mean)} [${signed(found.low)}, ${signed(found.high)}] against ${reference}, ` +
        `adjusted p ${probability(found.adjusted)} (${found.test}, ${whole(found.items)} shared items)`,
    );
    if (found.corrected) parts.push(`; ${correctedLine(found.corrected, signed)}`);
    if (found.effects.length) parts.push(`; ${movedLine(found.effects[0])}`);
  }
  const line = el("p", { class: "lede" }, parts.join(" ").replaceAll(" ;", ";"));
  return found && found.effects.length > 1 ? el("div", {}, line, movedByCategory(found.effects.slice(1))) : line;
}

const share = ({ mean, low, high }) => `${percent(mean)} [${percent(low)}, ${percent(high)}]`;

const percent = (value) => (value == null ? DASH : `${(100 * value).toFixed(1)}\u00A0%`);

const movedLine = ({ wrong, right }) => `${share(wrong)} of the items moved the wrong way, ${share(right)} the right way`;

function movedByCategory(effects) {
  const lines = effects.map((each) => el("li", {}, `${each.category} (${whole(each.items)}): ${movedLine(each)}`));
  return el("details", {}, el("summary", {}, "Items by category"), el("ul", {}, lines));
}

const standingLine = ({ rank_low, rank_high, may_be_best, shrunk }) =>
  `rank ${rank_low === rank_high ? rank_low : `${rank_low} to ${rank_high}`}` +
  `${may_be_best ? ", may be the best" : ""}, ${number(shrunk)} after shrinkage to the mean of the rows`;

function drawSampleControls(state) {
  const { board, row, column } = state;
  const change = (name, redraw) => (value) => {
    state[name] = value;
    if (redraw) drawSampleControls(state);
    loadSamples(state);
  };
  const tasks = row.tasks[column.task].map((task) => [task, task]);
  const runs = setsOf(state, row).map((_, index) => [String(index), `run ${index + 1}`]);
  const others = board.rows.filter((other) => other.name !== row.name && setsOf(state, other).length > 0);
  if (!others.some((other) => other.name === state.reference)) state.reference = "";
  const filters = state.reference ? FILTERS : FILTERS.slice(0, 1);
  if (!state.reference) state.filter = "all";
  const search = el("input", {
    type: "search",
    value: state.phrase,
    placeholder: "in prompts and answers",
    oninput: (event) => change("phrase")(event.target.value),
  });
  const named = others.map((other) => [other.name, other.name]);
  state.controls.replaceChildren(
    ...[
      tasks.length > 1 && labelled("Task", selectOf(tasks, state.task, change("task", true))),
      runs.length > 1 && labelled("Run", selectOf(runs, String(state.run), change("run"))),
      labelled("Beside", selectOf([["", "nothing"], ...named], state.reference, change("reference", true))),
      labelled("Show", selectOf(filters, state.filter, change("filter"))),
      labelled("Find text", search),
    ].filter(Boolean),
  );
}

/** Ids of a row's sets of samples for the chosen task, one for each run. */
function setsOf({ task, column }, row) {
  const found = row.samples[task] ?? {};
  return found[column.filter] ?? Object.values(found)[0] ?? [];
}

/** The other row's samples of the same data; of several such runs, that of the same number. */
function besides(set, ids, run) {
  const sets = ids.map(sampleSet);
  const same = sets.filter((other) => other.seeds === set.seeds);
  const found = same.length ? same : sets;
  return found[Math.min(run, found.length - 1)];
}

/** Apply the filters and show the first page; a search runs in steps. */
async function loadSamples(state) {
  const mine = setsOf(state, state.row);
  const theirs = state.reference ? setsOf(state, state.board.byName.get(state.reference)) : [];
  const run = Math.min(Number(state.run), mine.length - 1);
  const set = sampleSet(mine[run]);
  const other = theirs.length ? besides(set, theirs, run) : null;
  state.view = new SampleView(set, other, state.column.metric, state.column.higher_is_better);
  state.page = 0;
  const kept = state.view.keep(state.filter);
  const token = (state.search = {});
  state.places = state.phrase ? [] : kept;
  if (!state.phrase) return showSamples(state);
  await breathe();
  for await (const { found, read } of state.view.search(state.phrase, kept)) {
    if (state.search !== token) return;
    const before = state.places.length;
    state.places.push(...found);
    state.progress = read < kept.length ? `, ${whole(read)} of ${whole(kept.length)} searched` : "";
    if (before < PAGE && found.length) await showSamples(state);
    else drawSampleStatus(state);
    await breathe();
  }
  if (!state.places.length) await showSamples(state);
}

const lastPage = (state) => Math.max(0, Math.ceil(state.places.length / PAGE) - 1);

function turnTo(state, page) {
  state.page = Math.min(Math.max(0, page), lastPage(state));
  state.list.scrollTop = 0;
  return showSamples(state);
}

async function showSamples(state) {
  const shown = state.places.slice(state.page * PAGE, (state.page + 1) * PAGE);
  drawSampleStatus(state);
  const token = (state.shown = {});
  const samples = await Promise.all(shown.map((place) => state.view.text(place)));
  if (state.shown !== token) return;
  const cards = samples.map((sample) => sampleCard(state, sample));
  state.list.replaceChildren(...(cards.length ? cards : [el("li", { class: "empty" }, "No samples.")]));
}

function drawSampleStatus(state) {
  const { places, view, page } = state;
  const from = places.length ? page * PAGE + 1 : 0;
  const to = Math.min(places.length, (page + 1) * PAGE);
  const rest = state.phrase ? (state.progress ?? "") : "";
  state.status.textContent = `${whole(from)}${DASH}${whole(to)} of ${whole(places.length)} shown, ${whole(view.size)} in all${rest}`;
  const turn = (text, to, off) =>
    el("button", { type: "button", class: "plain", disabled: off, "data-turn": text, onclick: () => turnTo(state, to) }, text);
  const focused = document.activeElement?.dataset?.turn;
  state.pager.replaceChildren(
    turn("First", 0, page === 0),
    turn("Previous", page - 1, page === 0),
    turn("Next", page + 1, page >= lastPage(state)),
    turn("Last", lastPage(state), page >= lastPage(state)),
  );
  if (focused) {
    const same = state.pager.querySelector(`[data-turn="${focused}"]:not(:disabled)`);
    (same ?? state.list).focus();
  }
}

function pageByArrows(event, state) {
  if (event.target.matches("input, select") || event.altKey || event.ctrlKey || event.metaKey) return;
  const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
  if (!step) return;
  event.preventDefault();
  turnTo(state, state.page + step);
}

function sampleCard(state, sample) {
  const { view, row, reference } = state;
  const gain = view.gain(sample.place);
  const tag = gain === 0 ? null : gain > 0 ? ["better", "\u25B2 better"] : ["worse", "\u25BC worse"];
  const there = view.partner(sample.place);
  const answers = [answerOf(row.name, sample.answer, sample.read, view.set, sample.place)];
  if (sample.other) answers.unshift(answerOf(reference, ...sample.other, view.other, there));
  else if (view.other) answers.unshift(el("div", { class: "answer" }, el("h4", {}, reference), el("p", {}, "Has no such item.")));
  return el(
    "li",
    { class: "sample" },
    el("h3", {}, `Item ${view.set.item(sample.place)}`, tag && el("span", { class: `tag ${tag[0]}` }, tag[1])),
    promptOf(sample.prompt),
    sample.target && sample.target !== sample.prompt && el("p", { class: "target" }, el("b", {}, "Expected "), sample.target),
    el("div", { class: "answers" }, answers),
  );
}

/** The end of a prompt, which holds the item; all of it on demand. */
function promptOf(prompt) {
  const text = el("pre", { class: "prompt" }, prompt.length > TAIL ? `\u2026${prompt.slice(-TAIL)}` : prompt);
  if (prompt.length <= TAIL) return text;
  const button = el("button", { type: "button", class: "plain", "aria-expanded": "false" }, "Whole prompt");
  button.addEventListener("click", () => {
    text.textContent = prompt;
    button.remove();
    text.tabIndex = -1;
    text.focus();
  });
  return el("div", {}, text, button);
}

function answerOf(name, answer, read, set, place) {
  const verdicts = Object.entries(set.metrics).filter(([, values]) => values[place] != null);
  return el(
    "div",
    { class: "answer" },
    el("h4", {}, name),
    el("pre", {}, answer || el("i", {}, "(empty)")),
    read && el("p", { class: "read" }, el("b", {}, "Read as "), read),
    el(
      "dl",
      { class: "verdicts" },
      verdicts.map(([metric, values]) =>
        el("div", {}, el("dt", {}, metric.replaceAll("_", " ")), el("dd", {}, short(values[place]))),
      ),
    ),
  );
}

const short = (value) => (Number.isInteger(value) ? String(value) : number(value));
