// The page: boards, then sweeps, then checkpoints.

function sweepSection(sweep, index) {
  const metrics = distinct(sweep.curves.map((curve) => curve.metric));
  const state = { metric: metrics[0] };
  const made = strength(sweep, state);
  const select = selectOf(metrics.map((name) => [name, name]), state.metric, (value) => {
    state.metric = value;
    made.refresh();
  });
  return topic(`sweep-${index + 1}`, `Strength of steering, ${sweep.name}`, [labelled("Metric", select)], [made.figure]);
}

function analysisSection(analysis, index) {
  const dimensions = distinct(analysis.dimension);
  const estimators = Object.entries(analysis.estimators);
  const state = { dimension: dimensions[0], estimator: estimators[0][0] };
  const made = [checkpointCurves(analysis, state), checkpointHeat(analysis, state)];
  const change = (name) => (value) => {
    state[name] = value;
    made.forEach((each) => each.refresh());
  };
  const controls = [
    labelled("Dimension", selectOf(dimensions.map((name) => [name, name]), state.dimension, change("dimension"))),
    labelled("Measure of the map", selectOf(estimators, state.estimator, change("estimator"))),
  ];
  return topic(`analysis-${index + 1}`, `Checkpoints, ${analysis.name}`, controls, made.map((each) => each.figure));
}

const topic = (id, title, controls, figures) =>
  el(
    "section",
    { "aria-labelledby": id },
    el("h2", { id }, title),
    el("div", { class: "controls" }, controls),
    el("div", { class: "figures" }, figures),
  );

function contents(sections) {
  const links = sections.map((section) => {
    const heading = section.querySelector("h2");
    return el("li", {}, el("a", { href: `#${heading.id}` }, heading.textContent));
  });
  document.getElementById("contents").replaceChildren(el("ul", {}, links));
}

/** Open the samples that the address names, or say why not. */
function openLinked(boards) {
  const link = readLink();
  const message = document.getElementById("link-message");
  message.textContent = "";
  if (!link) return;
  const { board, row, column } = placeOf(boards, link);
  if (row && column && row.tasks[column.task]?.length) openSamples(board, row, column, link);
  else message.textContent = `The link leads to the samples of ${link.row} in ${link.score}, which this page does not have.`;
}

function start() {
  const data = json("data");
  document.getElementById("scheme").append(schemeControl());
  const boards = data.boards.map(prepared);
  const sections = [
    ...boards.map((board, index) => boardSection(board, index, boards.length)),
    ...data.sweeps.map(sweepSection),
    ...data.analyses.map(analysisSection),
  ];
  document.getElementById("summary").textContent =
    boards.length > 1 ? `${boards.length} boards, as the scores of one cannot be compared with those of another.` : "";
  const message = el("p", { id: "link-message", role: "status" });
  document.getElementById("main").replaceChildren(message, ...sections);
  if (sections.length > 1) contents(sections);
  openLinked(boards);
  addEventListener("hashchange", () => openLinked(boards));
}

start();
