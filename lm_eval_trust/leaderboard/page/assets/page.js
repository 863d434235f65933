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

function start() {
  const data = json("data");
  const boards = data.boards.map(prepared);
  const sections = [
    ...boards.map((board, index) => boardSection(board, index, boards.length)),
    ...data.sweeps.map(sweepSection),
    ...data.analyses.map(analysisSection),
  ];
  const rows = boards.reduce((sum, board) => sum + board.rows.length, 0);
  document.getElementById("summary").textContent =
    `${rows} rows on ${boards.length === 1 ? "one board" : `${boards.length} boards`}` +
    (boards.length > 1 ? ", kept apart because their scores cannot be compared." : ".");
  document.getElementById("main").replaceChildren(...sections);
  if (sections.length > 1) contents(sections);
}

start();
