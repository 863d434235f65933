// The dialog with the samples behind a score, next to those of the row that it is compared with.

const PAGE = 10;
const FILTERS = [
  ["all", "all samples"],
  ["changed", "answer changed"],
  ["worse", "moved the wrong way"],
  ["better", "moved the right way"],
];

/**
 * Open the samples of a row's score. `fields` are those of a link: `beside` (a row), `task`, `run`
 * (from 1), `show` (a filter), `find` (a phrase) and `item`.
 */
function openSamples(board, row, column, fields = {}) {
  const dialog = document.getElementById("samples");
  const tasks = row.tasks[column.task];
  const state = {
    board,
    row,
    column,
    dialog,
    task: tasks.includes(fields.task) ? fields.task : tasks[0],
    run: Math.max(0, (Number(fields.run) || 1) - 1),
    reference: !fields.beside || fields.beside === row.name ? "" : fields.beside,
    filter: FILTERS.some(([name]) => name === fields.show) ? fields.show : "all",
    phrase: fields.find ?? "",
    item: fields.item ? Number(fields.item) : null,
    page: 0,
    places: [],
  };
  state.list = el("ol", { class: "samples", tabindex: "0", "aria-label": "Samples" }, el("li", { class: "empty" }, "Loading\u2026"));
  state.status = el("p", { class: "status", role: "status" });
  state.pager = el("div", { class: "pager" });
  state.controls = el("div", { class: "controls" });
  const close = el("button", { type: "button", class: "plain", onclick: () => dialog.close() }, "Close");
  const title = el("h2", { id: "samples-title" }, el("bdi", {}, row.name), ": ", el("bdi", {}, column.title));
  dialog.replaceChildren(
    el("header", {}, el("div", {}, title, scoreFacts(state)), close),
    state.controls,
    el("div", { class: "bar" }, state.status, state.pager),
    state.list,
  );
  dialog.onkeydown = (event) => pageByArrows(event, state);
  dialog.onclose = () => {
    state.search = null;
    keepAddress(null);
  };
  drawSampleControls(state);
  if (!dialog.open) dialog.showModal();
  return loadSamples(state);
}

/** The score in a line that opens all that is known about it. */
function scoreFacts({ board, row, column, reference }) {
  const entries = facts(board, row, column, reference);
  const said = entries.filter(([term]) => term === "Score" || term === "Difference").map(([, each]) => each);
  return disclosure(said.flatMap((each, index) => (index ? ["; ", each] : [each])), { class: "score-facts" }, factList(entries));
}

function drawSampleControls(state) {
  const { board, row, column } = state;
  const change = (name, redraw) => (value) => {
    Object.assign(state, { [name]: value, item: null });
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
  const item = el("input", {
    type: "number",
    min: "0",
    value: state.item ?? "",
    onchange: (event) => {
      state.item = event.target.value === "" ? null : Number(event.target.value);
      loadSamples(state);
    },
  });
  const named = others.map((other) => [other.name, other.name]);
  state.controls.replaceChildren(
    ...[
      tasks.length > 1 && labelled("Task", selectOf(tasks, state.task, change("task", true))),
      runs.length > 1 && labelled("Run", selectOf(runs, String(state.run), change("run"))),
      labelled("Next to", selectOf([["", "nothing"], ...named], state.reference, change("reference", true))),
      labelled("Show", selectOf(filters, state.filter, change("filter"))),
      labelled("Find text", search),
      labelled("Go to item", item),
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

/** Apply the filters and show the first page, or that of the item asked for; a search runs in steps. */
async function loadSamples(state) {
  const token = (state.search = {});
  await loaded;
  const mine = setsOf(state, state.row);
  const theirs = state.reference ? setsOf(state, state.board.byName.get(state.reference)) : [];
  const run = Math.min(Number(state.run), mine.length - 1);
  const set = sampleSet(mine[run]);
  const other = theirs.length ? besides(set, theirs, run) : null;
  state.view = new SampleView(set, other, state.column.metric, state.column.higher_is_better);
  const wanted = state.item === null ? undefined : set.place(state.item);
  state.missing = state.item !== null && wanted === undefined;
  if (wanted !== undefined && !(await state.view.passes(wanted, state.filter, state.phrase))) {
    Object.assign(state, { filter: "all", phrase: "" });
    drawSampleControls(state);
  }
  const kept = state.view.keep(state.filter);
  Object.assign(state, { page: 0, places: state.phrase ? [] : kept, progress: "" });
  if (state.phrase) return searchSamples(state, kept, wanted, token);
  return showFrom(state, wanted);
}

async function searchSamples(state, kept, wanted, token) {
  let reached = false;
  await breathe();
  for await (const { found, read } of state.view.search(state.phrase, kept)) {
    if (state.search !== token) return;
    const before = state.places.length;
    state.places.push(...found);
    state.progress = read < kept.length ? `, ${whole(read)} of ${whole(kept.length)} searched` : "";
    const waits = wanted !== undefined && !state.places.includes(wanted);
    if (found.length && !waits && (before < PAGE || (wanted !== undefined && !reached))) {
      await showFrom(state, reached ? undefined : wanted);
      reached = true;
    } else drawSampleStatus(state);
    await breathe();
  }
  if (!state.places.length) await showSamples(state);
}

/** Show the page of a place, with the keyboard there; without one, the page as it is. */
async function showFrom(state, wanted) {
  if (wanted !== undefined) state.page = Math.floor(state.places.indexOf(wanted) / PAGE);
  await showSamples(state);
  if (wanted === undefined) return;
  const card = state.list.querySelector("[aria-current]");
  card?.scrollIntoView({ block: "start" });
  card?.focus({ preventScroll: true });
}

const lastPage = (state) => Math.max(0, Math.ceil(state.places.length / PAGE) - 1);

function turnTo(state, page) {
  state.page = Math.min(Math.max(0, page), lastPage(state));
  state.item = null;
  state.list.scrollTop = 0;
  return showSamples(state);
}

async function showSamples(state) {
  const shown = state.places.slice(state.page * PAGE, (state.page + 1) * PAGE);
  drawSampleStatus(state);
  const token = (state.shown = {});
  const samples = await Promise.all(shown.map((place) => state.view.text(place)));
  if (state.shown !== token || !state.dialog.open) return;
  const cards = samples.map((sample) => sampleCard(state, sample));
  state.list.replaceChildren(...(cards.length ? cards : [el("li", { class: "empty" }, "No samples.")]));
  const first = state.page > 0 ? state.view.set.item(shown[0]) : null;
  keepAddress(sampleAddress(state, { show: state.filter, find: state.phrase, item: state.item ?? first }));
}

/** The address of what the dialog shows; fields that have only one value are left out. */
function sampleAddress(state, fields) {
  const { board, row, column, task, run, reference } = state;
  const several = row.tasks[column.task].length > 1;
  const place = { board: board.number > 1 ? board.number : "", row: row.name, score: column.key, task: several ? task : "" };
  return addressOf({ ...place, run: Number(run) > 0 ? Number(run) + 1 : "", beside: reference, ...fields, show: fields.show === "all" ? "" : fields.show });
}

function drawSampleStatus(state) {
  const { places, view, page } = state;
  const from = places.length ? page * PAGE + 1 : 0;
  const to = Math.min(places.length, (page + 1) * PAGE);
  const rest = `${state.phrase ? state.progress : ""}${state.missing ? `. There is no item ${state.item}.` : ""}`;
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
  if (event.target.matches("input, select, summary") || event.altKey || event.ctrlKey || event.metaKey) return;
  const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
  if (!step || !state.view) return;
  event.preventDefault();
  turnTo(state, state.page + step);
}
